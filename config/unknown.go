package config

// closest returns the known name that is a slip of the pen away from name, or "" when none is near. Of name, distinct
// bytes tell it from others.
func closest(name string, distinct int, known []string) string {
	best, limit := "", distinct/3+1
	for _, k := range known {
		if d := editDistance(name, k); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
