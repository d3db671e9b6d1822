package thermo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/onewire"
	"periph.io/x/conn/v3/onewire/onewirereg"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/ds18b20"
	"periph.io/x/devices/v3/tmp102"
	"periph.io/x/host/v3"
)

// Where the kernel has its own thermometers.
const (
	w1Devices   = "/sys/bus/w1/devices"
	socThermals = "/sys/class/thermal"
)

const (
	tries     = 3            // of a reading that is spoiled
	atPowerOn = Milli(85000) // of a DS18B20 (its datasheet, table 1)
)

// W1 is a DS18B20 at a bus that the kernel drives (w1-gpio), by its id: 28-000005e2fdc3.
func W1(id string) func() (Source, error) { return w1At(w1Devices, id) }

func w1At(dir, id string) func() (Source, error) {
	path := filepath.Join(dir, id, "w1_slave")
	return func() (Source, error) {
		return file{path, ParseW1}, exists(path)
	}
}

// SoC is the computer's own, by the number of its thermal zone.
func SoC(zone int) func() (Source, error) { return socAt(socThermals, zone) }

func socAt(dir string, zone int) func() (Source, error) {
	path := filepath.Join(dir, fmt.Sprintf("thermal_zone%d", zone), "temp")
	return func() (Source, error) {
		return file{path, parseMilli}, exists(path)
	}
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

// file is a sensor that the kernel reads when its file is.
type file struct {
	path  string
	parse func([]byte) (Milli, error)
}

func (f file) Sense() (m Milli, err error) {
	for range tries {
		var b []byte
		if b, err = os.ReadFile(f.path); err != nil {
			return 0, err
		}
		if m, err = f.parse(b); err == nil {
			return m, nil
		}
	}
	return 0, err
}

func (f file) Close() error { return nil }

// ParseW1 reads a w1_slave file: the sensor's nine bytes twice, behind the first whether their CRC is right, behind
// the second the temperature (w1_therm in the kernel's documentation). 85 °C is what the sensor has at power on,
// -127 what a driver makes of a line without a sensor.
func ParseW1(b []byte) (Milli, error) {
	first, second, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !strings.HasSuffix(strings.TrimRight(string(first), " \r"), "YES") {
		return 0, ErrChecksum
	}
	_, t, ok := bytes.Cut(second, []byte("t="))
	if !ok {
		return 0, ErrChecksum
	}
	m, err := parseMilli(t)
	switch {
	case err != nil:
		return 0, err
	case m == atPowerOn:
		return 0, ErrPowerOn
	case m <= -127000:
		return 0, ErrChecksum
	}
	return m, nil
}

func parseMilli(b []byte) (Milli, error) {
	text := strings.TrimSpace(string(b))
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", text[:min(len(text), 20)], ErrRange)
	}
	return Milli(n), nil
}

// physical is a sensor of periph.io's.
type physical struct {
	sensor interface{ Sense(*physic.Env) error }
	bus    interface{ Close() error }
	starts Milli // what it has at power on, and so never measured; 0: nothing
}

func (p physical) Sense() (Milli, error) {
	var e physic.Env
	if err := p.sensor.Sense(&e); err != nil {
		return 0, err
	}
	m := Milli((e.Temperature - physic.ZeroCelsius) / physic.MilliKelvin) //nolint:gosec // 14 bits
	if p.starts != 0 && m == p.starts {                                   // periph's own look at it (v3.7.4) compares with another scale
		return 0, ErrPowerOn
	}
	return m, nil
}

func (p physical) Close() error { return p.bus.Close() }

// TMP102 is one at an I2C bus of this computer ("" is its first), at an address from 0x48 to 0x4B.
func TMP102(bus string, address uint16) func() (Source, error) {
	return func() (Source, error) {
		if _, err := host.Init(); err != nil {
			return nil, err
		}
		b, err := i2creg.Open(bus)
		if err != nil {
			return nil, err
		}
		return tmp102On(b, address)
	}
}

func tmp102On(b i2c.BusCloser, address uint16) (Source, error) {
	d, err := tmp102.NewI2C(b, address, nil)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return physical{sensor: d, bus: b}, nil
}

// DS18B20 is one at a 1-wire bus that periph.io drives (a DS2482, or the kernel's by netlink), by its 64-bit
// address. "" is the first bus.
func DS18B20(bus string, address uint64) func() (Source, error) {
	return func() (Source, error) {
		if _, err := host.Init(); err != nil {
			return nil, err
		}
		b, err := onewirereg.Open(bus)
		if err != nil {
			return nil, err
		}
		return ds18b20On(b, address)
	}
}

func ds18b20On(b onewire.BusCloser, address uint64) (Source, error) {
	d, err := ds18b20.New(b, onewire.Address(address), 10) // a quarter of a degree, in 188 ms
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return physical{d, b, atPowerOn}, nil
}
