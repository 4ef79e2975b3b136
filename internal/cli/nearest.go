package cli

import "strings"

// nearestWord returns the candidate that name was most likely meant to be, or
// "" if none is close enough.
func nearestWord(name string, candidates []string) string {
	best, found := len(name)/3+2, ""
	for _, c := range candidates {
		if d := editDistance(name, c); d < best {
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

// editDistance returns the Levenshtein distance of a and b, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
