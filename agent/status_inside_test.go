package agent

import (
	"fmt"
	"strings"
	"testing"

	"coinop/hardware"
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
