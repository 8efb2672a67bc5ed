package stream

import (
	_ "embed"

	"github.com/websopy/relay/internal/redisconn"
)

var (
	//go:embed lua/create.lua
	createLua string
	//go:embed lua/write.lua
	writeLua string
	//go:embed lua/watch.lua
	watchLua string
	//go:embed lua/stop.lua
	stopLua string
	//go:embed lua/lose.lua
	loseLua string
	//go:embed lua/claim.lua
	claimLua string
	//go:embed lua/keep.lua
	keepLua string
	//go:embed lua/read.lua
	readLua string

	createScript = redisconn.NewScript(createLua)
	writeScript  = redisconn.NewScript(writeLua)
	watchScript  = redisconn.NewScript(watchLua)
	stopScript   = redisconn.NewScript(stopLua)
	loseScript   = redisconn.NewScript(loseLua)
	claimScript  = redisconn.NewScript(claimLua)
	keepScript   = redisconn.NewScript(keepLua)
	readScript   = redisconn.NewScript(readLua)
)
