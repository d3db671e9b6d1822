package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/hardware"

	"golang.org/x/sys/unix"
)

// TestParts: a device that tells of its parts is not away under its own name when they are back, nor are they there
// when it is away.
func TestParts(t *testing.T) {
	t.Parallel()
	var all []DeviceStatus
	for _, c := range []struct {
		device string
		state  hardware.HealthState
		want   string
	}{
		{"cash coins", hardware.Ready, "cash coins ready"},
		{"cash bills", hardware.Ready, "cash coins ready, cash bills ready"},
		{"cashless", hardware.Ready, "cash coins ready, cash bills ready, cashless ready"},
		{"cash", hardware.Absent, "cashless ready, cash absent"},
		{"cash coins", hardware.Absent, "cashless ready, cash coins absent"},
		{"cash coins", hardware.Ready, "cashless ready, cash coins ready"},
	} {
		all = sees(all, hardware.Health{Device: c.device, State: c.state})
		var got []string
		for _, d := range all {
			got = append(got, fmt.Sprintf("%s %s", d.Name, d.State))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s %v: %q, want %q", c.device, c.state, got, c.want)
		}
	}
}

// Who asks for the status at the moment of a start has the data folder's lock, but for a moment.
func TestStatusKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	asks, err := os.Create(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(asks.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { letGo(asks) })
	end, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if pid, held := holder(dir); !held || pid != os.Getpid() {
		t.Errorf("held: %v, by %d", held, pid)
	}
	if _, err := lock(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	end()
	if _, held := holder(dir); held {
		t.Error("it is held after its end")
	}
}
