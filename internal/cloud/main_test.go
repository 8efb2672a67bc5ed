package cloud

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/websopy/relay/internal/leaktest"
)

func TestMain(m *testing.M) {
	leaktest.Main(m, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop")) // idle connections of the clouds' own clients
}
