package config

// former are settings that there were once, and what says the same now. They are errors: a bound that somebody
// relies on must not go without a word.
var former = []struct{ name, instead string }{
	{"RELAY_RESUME_PER_CALLER", "RELAY_LIMIT_STREAMS, which counts all answers of a caller that are being generated"},
}

func (l *loader) refuseFormer() {
	for _, f := range former {
		if l.env[f.name] != "" {
			l.problem(f.name, "is not a setting any more; use %s", f.instead)
		}
	}
}
