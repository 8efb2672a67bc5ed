package redisconn

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"time"

	"github.com/redis/rueidis"
)

// Script is a piece of Lua that Redis runs as one step. rueidis has such a type, but its way to run one many
// times at once loads it into every node each time.
type Script struct{ text, sha string }

// NewScript makes a Script.
func NewScript(text string) Script {
	sum := sha1.Sum([]byte(text)) // Redis names scripts so
	return Script{text: text, sha: hex.EncodeToString(sum[:])}
}

// Run is one execution of a Script. Its keys are in one slot.
type Run struct{ Keys, Args []string }

// Run executes s for each of runs, all about keys of node n, like Do. When n is away, each result is ErrAway.
func (c *Conn) Run(ctx context.Context, n *Node, s Script, runs ...Run) []rueidis.RedisResult {
	client := c.client.Load()
	if client == nil || n.State() == Away {
		results := make([]rueidis.RedisResult, len(runs))
		for i := range results {
			results[i] = rueidis.NewErrorResult(ErrAway)
		}
		return results
	}
	timed := ctx
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > CallTimeout {
		var cancel context.CancelFunc
		timed, cancel = context.WithTimeout(ctx, CallTimeout)
		defer cancel()
	}
	results := s.do(timed, *client, runs)
	c.learn(ctx, client, n, results)
	return results
}

// do executes s, in one round trip when Redis knows it. Otherwise the first run that Redis did not understand
// teaches it, and the rest is asked again.
func (s Script) do(ctx context.Context, c rueidis.Client, runs []Run) []rueidis.RedisResult {
	results := c.DoMulti(ctx, s.build(c.B(), runs)...)
	var again []int
	for i := range runs {
		if e, ok := rueidis.IsRedisErr(results[i].Error()); ok && e.IsNoScript() {
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return results
	}
	first, rest := again[0], make([]Run, 0, len(again)-1)
	r := runs[first]
	text := c.B().Eval().Script(s.text).Numkeys(int64(len(r.Keys)))
	results[first] = c.Do(ctx, text.Key(r.Keys...).Arg(r.Args...).Build())
	for _, i := range again[1:] {
		rest = append(rest, runs[i])
	}
	for i, result := range c.DoMulti(ctx, s.build(c.B(), rest)...) {
		results[again[i+1]] = result
	}
	return results
}

func (s Script) build(b rueidis.Builder, runs []Run) rueidis.Commands {
	commands := make(rueidis.Commands, len(runs))
	for i, r := range runs {
		commands[i] = b.Evalsha().Sha1(s.sha).Numkeys(int64(len(r.Keys))).Key(r.Keys...).Arg(r.Args...).Build()
	}
	return commands
}
