package problem

// maxWord is the longest word, in bytes, whose distance is worth computing:
// longer ones are not misspelled names.
const maxWord = 64

// EditDistance returns the Levenshtein distance of a and b: how many bytes must
// be changed, added or removed to turn a into b. If one of them is too long to
// be a name, it returns the longer length.
func EditDistance(a, b string) int {
	if longest := max(len(a), len(b)); longest > maxWord {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
