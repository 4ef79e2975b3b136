//go:build race

package reset

const raceDetector = true
