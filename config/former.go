package config

// former are settings that there were once, and what says the same now. They are errors: a bound that somebody
// relies on must not go without a word.
var former = []struct {
	at, instead path
	which       string
}{
	{"resume_per_caller", "limit_streams", "which counts all answers of a caller that are being generated"},
}

func (r *report) refuseFormer() {
	for _, f := range former {
		if r.given(f.at) {
			r.problem(f.at, "is not a setting any more; use %s, %s", f.instead, f.which)
		}
	}
}
