//go:build race

package upgrade

const raceDetector = true
