package pn532

import (
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/host/v3"
)

// Identify asks at an I2C bus for a chip and its firmware. A read comes first, which changes nothing anywhere: what
// does not begin it as the chip does (UM0701-02, 6.2.4: ready or not) is another, and is told nothing.
func Identify(path string) (says string, err error) {
	if _, err := host.Init(); err != nil {
		return "", err
	}
	b, err := i2creg.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = b.Close() }()
	return identify(b)
}

const identifyTries = 50

func identify(b i2c.Bus) (string, error) {
	first := make([]byte, 1)
	if err := b.Tx(i2cAddress, nil, first); err != nil {
		return "", fmt.Errorf("nobody at address %02X: %w", i2cAddress, err)
	}
	if first[0] > i2cReady {
		return "", fmt.Errorf("what is at address %02X is no PN532: it reads %02X", i2cAddress, first[0])
	}
	if err := b.Tx(i2cAddress, []byte{0, 0, 0xFF, 0x02, 0xFE, 0xD4, cmdVersion, 0x2A, 0}, nil); err != nil {
		return "", err
	}
	for range identifyTries {
		in := make([]byte, 1+13)
		if err := b.Tx(i2cAddress, nil, in); err != nil {
			return "", err
		}
		if in[0] == i2cReady {
			f, ok, err := decodeOne(in[1:])
			if ok && err == nil && f.Kind == Information && len(f.Data) >= 4 && f.Data[0] == cmdVersion+1 && f.Data[1] == 0x32 {
				return fmt.Sprintf("PN532, firmware %d.%d", f.Data[2], f.Data[3]), nil
			}
		}
		time.Sleep(i2cPoll)
	}
	return "", errors.New("it does not say its firmware")
}
