package config

import (
	"reflect"
	"slices"
)

// reloaded are the settings beside upstreams and models that may change while the relay runs.
var reloaded = []string{
	"default_model", "sticky", "limit_requests", "limit_tokens", "limit_streams", "budget_tokens", "limit_attach",
}

// Reload is Load for a relay that runs with the settings before. The error is of type Problems also when the
// settings could be used, but not without a restart.
func Reload(environ []string, kinds Kinds, before *Config) (*Config, error) {
	next, r, err := load(environ, kinds)
	if err != nil {
		return nil, err
	}
	was := settingsOf("", before)
	for i, s := range settingsOf("", next) {
		same := reflect.DeepEqual(s.value.Interface(), was[i].value.Interface())
		if !same && !slices.Contains(reloaded, s.key) {
			r.problem(path(s.key), "has changed, which takes a restart")
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return next, nil
}
