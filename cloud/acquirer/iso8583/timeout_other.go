//go:build !linux

package iso8583

import (
	"syscall"
	"time"
)

// userTimeout has no counterpart here: the cloud runs on Linux, this is for a developer's machine.
func userTimeout(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
