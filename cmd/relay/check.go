package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/websopy/relay/config"
)

// check says what the settings come to: which upstreams would be asked for which model, in which order.
func check(cfg *config.Config, w io.Writer) {
	for _, warning := range cfg.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
	fmt.Fprintln(w, "The settings can be used.")
	for _, u := range cfg.Upstreams {
		at := u.BaseURL
		if at == "" {
			at = "in this process"
		}
		fmt.Fprintf(w, "upstream %s: %s, %s\n", u.Name, u.Kind, at)
	}
	routes := cfg.Routes()
	for _, asked := range choices(cfg) {
		fmt.Fprintf(w, "\n%s\n", asked.title)
		i := slices.IndexFunc(routes, func(r config.Route) bool { return asked.pattern || r.Has(asked.model) })
		if i >= 0 {
			tellRoute(cfg, routes[max(i, asked.route)], asked.model, w)
		}
	}
}

// choice is a model that a request may name.
type choice struct {
	title, model string
	pattern      bool // model only matches, and is no name
	route        int  // of a pattern
}

// choices are what requests may name: nothing, each model, and what patterns stand for.
func choices(cfg *config.Config) []choice {
	var all []choice
	names, _ := cfg.Names()
	switch {
	case cfg.NeedsModel(kinds) != "":
	case len(cfg.Models) > 0:
		all = append(all, choice{title: "no model (" + cfg.DefaultModel + ")", model: cfg.DefaultModel})
	default:
		all = append(all, choice{title: "no model", model: cfg.Upstreams[0].Model})
	}
	for _, name := range names {
		all = append(all, choice{title: name, model: name})
	}
	return append(all, patterns(cfg)...)
}

func patterns(cfg *config.Config) (all []choice) {
	if len(cfg.Models) == 0 && len(cfg.Upstreams[0].Models) == 0 {
		return []choice{{title: "any other model", model: "(its name)", pattern: true}}
	}
	for _, entry := range cfg.Upstreams[0].Models {
		if name, _, _ := strings.Cut(entry, "="); len(cfg.Models) == 0 && strings.Contains(name, "*") {
			all = append(all, choice{title: name, model: name})
		}
	}
	exact := len(cfg.Models)
	for _, m := range cfg.Models {
		if strings.Contains(m.Name, "*") {
			exact--
		}
	}
	for _, m := range cfg.Models {
		if strings.Contains(m.Name, "*") {
			all = append(all, choice{title: m.Name, model: m.Name, pattern: true, route: exact + len(all)})
		}
	}
	return all
}

// tellRoute writes a line for each tier.
func tellRoute(cfg *config.Config, route config.Route, model string, w io.Writer) {
	n := 0
	for _, tier := range route.Tiers {
		total := 0
		for _, c := range tier {
			total += c.Weight
		}
		var targets []string
		for _, c := range tier {
			name, ok := c.Model(model)
			if !ok {
				continue
			}
			target := cfg.Upstreams[c.Upstream].Name
			if name != "" && name != model {
				target += " as " + name
			}
			if len(tier) > 1 {
				target += fmt.Sprintf(" (%.0f %%)", 100*float64(c.Weight)/float64(total))
			}
			targets = append(targets, target)
		}
		if len(targets) > 0 {
			n++
			fmt.Fprintf(w, "  %d. %s\n", n, strings.Join(targets, ", "))
		}
	}
}
