package stream

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"

	"github.com/redis/rueidis"
)

var (
	//go:embed lua/create.lua
	createLua string
	//go:embed lua/append.lua
	appendLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/stop.lua
	stopLua string
	//go:embed lua/lose.lua
	loseLua string
	//go:embed lua/claim.lua
	claimLua string

	createScript = newScript(createLua)
	appendScript = newScript(appendLua)
	renewScript  = newScript(renewLua)
	stopScript   = newScript(stopLua)
	loseScript   = newScript(loseLua)
	claimScript  = newScript(claimLua)
)

// script is a piece of Lua that Redis runs as one step. rueidis has such a type, but its way to run
// one many times at once loads it into every node each time.
type script struct{ text, sha string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) // Redis names scripts so
	return script{text: text, sha: hex.EncodeToString(sum[:])}
}

// run is one execution of a script.
type run struct{ keys, args []string }

// do executes s for each of runs, in one round trip when Redis knows it.
func (s script) do(ctx context.Context, c rueidis.Client, runs ...run) []rueidis.RedisResult {
	commands := make(rueidis.Commands, len(runs))
	for i, r := range runs {
		commands[i] = c.B().Evalsha().Sha1(s.sha).Numkeys(int64(len(r.keys))).Key(r.keys...).Arg(r.args...).Build()
	}
	results := c.DoMulti(ctx, commands...)
	for i, r := range runs {
		if e, ok := rueidis.IsRedisErr(results[i].Error()); ok && e.IsNoScript() {
			results[i] = c.Do(ctx, c.B().Eval().Script(s.text).Numkeys(int64(len(r.keys))).Key(r.keys...).Arg(r.args...).Build())
		}
	}
	return results
}
