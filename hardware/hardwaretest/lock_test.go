package hardwaretest

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"coinop/hardware"
	"coinop/hardware/magstripe"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol/money"
)

// TestOneHasIt: a device's node is one driver's at a time, whichever was first, and the next one's when that ends.
func TestOneHasIt(t *testing.T) {
	t.Parallel()
	hid := filepath.Join(t.TempDir(), "hidraw0") // a pipe can be waited for as hidraw can
	must(t, unix.Mkfifo(hid, 0o600))
	far, err := virtual.NewReader(virtual.ReaderConfig{Link: t.TempDir() + "/tty"})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	type driver interface {
		Open(ctx context.Context) (hardware.Driver, error)
	}
	out := func(hardware.Event) {}
	open := func(make func() (driver, error)) (end func(), err error) {
		d, err := make()
		must(t, err)
		run, err := d.Open(ctx)
		return func() {
			over, cancel := context.WithCancel(ctx)
			cancel()
			_ = run.Run(over)
		}, err
	}
	for _, path := range []string{hid, far.Path()} {
		head := func(h magstripe.Head) func() (driver, error) {
			return func() (driver, error) {
				return magstripe.New(magstripe.Config{Path: path, Head: h, Currency: money.EUR}, out)
			}
		}
		all := map[string]func() (driver, error){
			"MagTek": head(magstripe.HeadMagTek), "ID TECH": head(magstripe.HeadIDTECH),
			"vivopay": func() (driver, error) { return vivopay.New(vivopay.Config{Path: path, Currency: money.EUR}, out) },
		}
		for one, first := range all {
			end, err := open(first)
			if err != nil {
				t.Fatalf("%s at %s: %v", one, filepath.Base(path), err)
			}
			for other, second := range all {
				if _, err := open(second); err == nil || !strings.Contains(err.Error(), "another process has it") {
					t.Errorf("%s has %s, and %s opens it: %v", one, filepath.Base(path), other, err)
				}
			}
			end()
		}
	}
}
