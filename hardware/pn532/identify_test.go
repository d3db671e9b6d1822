package pn532

import (
	"strings"
	"testing"

	"periph.io/x/conn/v3/i2c/i2ctest"
)

// What does not begin a read as the chip does is told nothing: a write would set the pins of a port expander.
func TestIdentify(t *testing.T) {
	t.Parallel()
	ask := []byte{0, 0, 0xFF, 0x02, 0xFE, 0xD4, 0x02, 0x2A, 0}
	pad := func(b ...byte) []byte { return append(b, make([]byte, 14-len(b))...) }
	for name, c := range map[string]struct {
		ops  []i2ctest.IO
		want string
	}{
		"chip": {[]i2ctest.IO{
			{Addr: i2cAddress, R: []byte{0}},
			{Addr: i2cAddress, W: ask},
			{Addr: i2cAddress, R: pad(0)},
			{Addr: i2cAddress, R: pad(1, 0, 0, 0xFF, 0, 0xFF, 0)},
			{Addr: i2cAddress, R: pad(1, 0, 0, 0xFF, 6, 0xFA, 0xD5, 3, 0x32, 1, 6, 7, 0xE8, 0)},
		}, "PN532, firmware 1.6"},
		"an expander": {[]i2ctest.IO{{Addr: i2cAddress, R: []byte{0xF7}}}, "is no PN532: it reads F7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &i2ctest.Playback{Ops: c.ops, DontPanic: true}
			says, err := identify(b)
			if err != nil {
				says += err.Error()
			}
			if !strings.Contains(says, c.want) {
				t.Error(says)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
