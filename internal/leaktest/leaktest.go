// Package leaktest has a package's tests fail that leave goroutines behind.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have for their end, when all tests are over. The client of Redis closes the
// connections to nodes that have left a Cluster 5 s after it has heard of that, also when it was closed meanwhile,
// and a machine may be busy with other things.
const patience = 30 * time.Second

// Main runs the tests and ends the process.
func Main(m *testing.M, ignored ...goleak.Option) { os.Exit(Run(m, ignored...)) }

// Run runs the tests and gives the process's exit code.
func Run(m *testing.M, ignored ...goleak.Option) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := find(patience, ignored...); err != nil {
		fmt.Fprintln(os.Stderr, "all tests passed, but they left goroutines behind:", err)
		return 1
	}
	return 0
}

// find gives the goroutines that are still there after some time, as an error. One look of goleak takes half a second
// when it finds something.
func find(patience time.Duration, ignored ...goleak.Option) error {
	for end := time.Now().Add(patience); ; {
		if err := goleak.Find(ignored...); err == nil || time.Now().After(end) {
			return err
		}
	}
}
