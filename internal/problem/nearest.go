package problem

import "strings"

// Nearest returns the candidate that name was most likely meant to be, or
// "" if none is close enough.
func Nearest(name string, candidates []string) string {
	best, found := len(name)/3+2, ""
	for _, c := range candidates {
		if d := EditDistance(name, c); d < best {
			best, found = d, c
		}
	}
	for _, c := range candidates {
		if found == "" && len(name) > 2 && strings.HasPrefix(c, name) {
			found = c
		}
	}
	return found
}
