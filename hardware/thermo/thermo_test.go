package thermo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coinop/hardware"

	"go.uber.org/goleak"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/onewire"
	"periph.io/x/conn/v3/onewire/onewiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestW1: files of the kernel's w1_therm.
func TestW1(t *testing.T) {
	t.Parallel()
	file := func(crc, t string) string {
		const b = "72 01 4b 46 7f ff 0e 10 57 "
		return b + ": crc=57 " + crc + "\n" + b + "t=" + t + "\n"
	}
	for _, c := range []struct {
		name, file string
		want       Milli
		err        error
	}{
		{"as measured", file("YES", "23125"), 23125, nil},
		{"frost", file("YES", "-1062"), -1062, nil},
		{"power on", file("YES", "85000"), 0, ErrPowerOn},
		{"a line without a sensor", file("YES", "-127000"), 0, ErrChecksum},
		{"CRC", file("NO", "23125"), 0, ErrChecksum},
		{"empty", "", 0, ErrChecksum},
		{"half", file("YES", "")[:40], 0, ErrChecksum},
		{"no number", file("YES", "x"), 0, ErrRange},
		{"too large", file("YES", "99999999999"), 0, ErrRange},
	} {
		if got, err := ParseW1([]byte(c.file)); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v %v", c.name, got, err)
		}
	}
	if s := fmt.Sprint(Milli(-1062), Milli(23125)); s != "-1.0 °C 23.1 °C" {
		t.Error(s)
	}
}

func FuzzW1(f *testing.F) {
	f.Add([]byte("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseW1(b); err == nil && (m == 85000 || m <= -127000) {
			t.Errorf("%q is %v", b, m)
		}
	})
}

// TestState: readings that are none are dropped, and told after three; limits have room between out and in.
func TestState(t *testing.T) {
	t.Parallel()
	s := State{Sensor: Sensor{Name: "cabinet", Low: 2000, High: 8000}}
	var got []string
	for _, r := range []struct {
		m   Milli
		err error
	}{
		{5000, nil},
		{0, ErrPowerOn},
		{0, ErrChecksum},
		{5500, nil}, // two are no news
		{0, ErrChecksum},
		{200000, nil},
		{0, ErrPowerOn},
		{0, ErrPowerOn},
		{6000, nil},
		{8100, nil},
		{7500, nil},
		{6900, nil},
		{1900, nil},
		{2500, nil},
		{3000, nil},
	} {
		for _, e := range s.Step(r.m, r.err) {
			switch e := e.(type) {
			case hardware.Temperature:
				got = append(got, fmt.Sprint(e.Milli))
			case hardware.Health:
				got = append(got, e.State.String()+" "+e.Code)
			}
		}
	}
	want := []string{
		"5000", "ready ready", "5500", "degraded sensor_lost", "6000", "ready ready",
		"8100", "degraded too_hot", "7500", "6900", "ready ready", "1900", "degraded too_cold", "2500", "3000", "ready ready",
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// TestTMP102 plays a bus back: what is written at the opening, and temperatures as its datasheet, table 9, has them.
func TestTMP102(t *testing.T) {
	t.Parallel()
	bus := &i2ctest.Playback{Ops: []i2ctest.IO{
		{Addr: 0x48, W: []byte{1}, R: []byte{0x60, 0xA0}},
		{Addr: 0x48, W: []byte{1, 0x60, 0xA0}},
		{Addr: 0x48, W: []byte{0}, R: []byte{0x32, 0x00}}, // 50 °C
		{Addr: 0x48, W: []byte{0}, R: []byte{0x00, 0x40}}, // 0.25 °C
		{Addr: 0x48, W: []byte{0}, R: []byte{0xE7, 0x00}}, // -25 °C
	}, DontPanic: true}
	s, err := tmp102On(bus, 0x48)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Milli{50000, 250, -25000} {
		if got, err := s.Sense(); got != want || err != nil {
			t.Errorf("%v, want %v: %v", got, want, err)
		}
	}
	if _, err := s.Sense(); err == nil {
		t.Error("a bus that says nothing more has a temperature")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDS18B20 plays a 1-wire bus back: a conversion, and scratchpads as its datasheet has them; one that has not
// measured, and one whose CRC is wrong, are none.
func TestDS18B20(t *testing.T) {
	t.Parallel()
	pad := func(low, high byte) []byte {
		b := []byte{low, high, 0x4B, 0x46, 0x3F, 0xFF, 0x0E, 0x10, 0}
		for !onewire.CheckCRC(b) {
			b[8]++
		}
		return b
	}
	const address = 0x740000070e41ac28
	match := []byte{0x55, 0x28, 0xac, 0x41, 0x0e, 0x07, 0x00, 0x00, 0x74}
	read := func(b []byte) onewiretest.IO {
		return onewiretest.IO{W: append(slices.Clone(match), 0xBE), R: b}
	}
	convert := onewiretest.IO{W: append(slices.Clone(match), 0x44), Pull: onewire.StrongPullup}
	spoiled := pad(0x91, 0x01)
	spoiled[0] ^= 1
	synctest.Test(t, func(t *testing.T) { // it waits 188 ms for each
		bus := &onewiretest.Playback{Ops: []onewiretest.IO{
			read(pad(0x50, 0x05)),
			convert, read(pad(0x91, 0x01)), // 25.0625 °C
			convert, read(pad(0x5E, 0xFF)), // -10.125 °C
			convert, read(pad(0x50, 0x05)), // 85 °C: power on
			convert, read(spoiled),
		}, DontPanic: true}
		s, err := ds18b20On(bus, address)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []Milli{25062, -10125} {
			if got, err := s.Sense(); got != want || err != nil {
				t.Errorf("%v, want %v: %v", got, want, err)
			}
		}
		for _, what := range []string{"power on", "CRC"} {
			if got, err := s.Sense(); err == nil {
				t.Errorf("%s: %v", what, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRun: files that come, lie and go, through the driver.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "thermal_zone0"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "thermal_zone0", "temp"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var got []string
		th, err := New(Config{Sensors: []Sensor{{Name: "computer", Open: socAt(dir, 0)}}}, func(e hardware.Event) {
			got = append(got, strings.TrimPrefix(fmt.Sprintf("%T%v", e, e), "hardware."))
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = hardware.Supervise(ctx, "thermometers", th.Open, th.out) }()
		time.Sleep(95 * time.Second) // not there: four readings
		synctest.Wait()
		write("85000\n") // of a computer it is a temperature
		time.Sleep(30 * time.Second)
		synctest.Wait()
		cancel()
		<-done
		if len(got) != 3 || !strings.HasPrefix(got[0], "Health{temperature computer degraded sensor_lost") ||
			got[1] != "Temperature{computer 85000}" || got[2] != "Health{temperature computer ready ready }" {
			t.Errorf("%q", got)
		}
	})
	for _, bad := range []Config{{}, {Sensors: []Sensor{{Name: "x"}}}, {Sensors: []Sensor{{Name: "x", Open: SoC(0), Low: 2, High: 1}}}} {
		if _, err := New(bad, nil); err == nil {
			t.Errorf("%+v", bad)
		}
	}
}
