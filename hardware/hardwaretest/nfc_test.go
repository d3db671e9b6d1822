package hardwaretest

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/pn532"
	"coinop/hardware/virtual"
	"coinop/protocol/money"
)

// farPN532 runs a chip on a pty.
func farPN532(t *testing.T) *virtual.PN532 {
	t.Helper()
	far, err := virtual.NewPN532(t.TempDir() + "/reader")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return far
}

func TestPN532(t *testing.T) {
	t.Parallel()
	atChip := func(path string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error) {
		r, err := pn532.New(pn532.Config{Path: path, Currency: money.EUR, Keys: LoopKeys(t)}, out)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Open, nil
	}
	LoopReader(t, atChip, func(t *testing.T, out func(hardware.Event)) LoopRig {
		far := farPN532(t)
		r, err := pn532.New(pn532.Config{Path: far.Path(), Currency: money.EUR, Keys: LoopKeys(t)}, out)
		must(t, err)
		return LoopRig{Far: far, Reader: r, Open: r.Open, Mute: far.Mute, Line: far.Line, Fault: far.Misbehave}
	})
}

// TestPN532WithoutKeys: a card is its chip's number, and nobody takes it for proven.
func TestPN532WithoutKeys(t *testing.T) {
	t.Parallel()
	far, l := farPN532(t), NewLog(t)
	r, err := pn532.New(pn532.Config{Path: far.Path(), Currency: money.EUR}, l.Out)
	must(t, err)
	b := &loopBench{LoopRig: LoopRig{Far: far, Reader: r}, t: t, l: l}
	b.stop = supervise(t, l, r.Open)
	b.ready()
	if c := b.tap(ultralight()); c.Verified || c.ID != "" || string(c.UID) != "\x04999999" {
		t.Errorf("read %+v", c)
	}
	if v := far.View(); v.Exchanges != 0 || v.BadIn != 0 {
		t.Errorf("%+v", v)
	}
}

// TestOtherChip: what answers is no PN532.
func TestOtherChip(t *testing.T) {
	t.Parallel()
	far, l := farPN532(t), NewLog(t)
	far.Misbehave(virtual.NFCOtherChip)
	r, err := pn532.New(pn532.Config{Path: far.Path(), Currency: money.EUR}, l.Out)
	must(t, err)
	supervise(t, l, r.Open)
	if h := Next(l, func(h hardware.Health) bool { return h.State == hardware.Absent }); h.Code != hardware.CodePortLost || !strings.Contains(h.Detail, "no PN532") {
		t.Errorf("%+v", h)
	}
	Next(l, func(e hardware.Health) bool { return e.State == hardware.Ready })
}

// TestNFCList has another project's host driver (libnfc 1.8.0, nfc-list) open our chip and list our cards: what
// the far end says is judged by it, and so is not only what our own driver expects.
func TestNFCList(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("nfc-list")
	if err != nil {
		t.Fatal("nfc-list is missing: make tools installs it (libnfc-bin)")
	}
	for name, c := range map[string]struct {
		card *virtual.NFCCard
		want []string
	}{
		"MIFARE Classic": {Classic(t, "\xde\xad\xbe\xef", "x"), []string{"de  ad  be  ef", "SAK (SEL_RES): 08", "MIFARE Classic 1K"}},
		"DESFire":        {DESFire(t, "\x04\x01\x02\x03\x04\x05\x06", "x"), []string{"04  01  02  03  04  05  06", "SAK (SEL_RES): 20", "75  77  81  02  80", "DESFire"}},
		"no card":        {nil, []string{"0 ISO14443A passive target(s) found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := farPN532(t)
			if c.card != nil {
				far.Present(c.card)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, tool, "-v", "-t", "1")
			cmd.Env = []string{"LIBNFC_DEVICE=pn532_uart:" + far.Path(), "LIBNFC_AUTO_SCAN=false", "LIBNFC_INTRUSIVE_SCAN=false", "HOME=" + t.TempDir()}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("nfc-list: %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			if v := far.View(); v.BadIn != 0 {
				t.Errorf("frames of libnfc were not understood: %+v", v)
			}
		})
	}
}
