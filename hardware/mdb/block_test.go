package mdb

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wire reads "10* 10": hex bytes, a star for the mode bit.
func wire(t testing.TB, s string) (out []Word) {
	t.Helper()
	for f := range strings.FieldsSeq(s) {
		var w Word
		hex, star := strings.CutSuffix(f, "*")
		if _, err := fmt.Sscanf(hex, "%X", &w); err != nil {
			t.Fatal(err)
		}
		if star {
			w |= Mode
		}
		out = append(out, w)
	}
	return out
}

func blanks(n int) string { return strings.Repeat(" 20", n) }

// Exchanges of MDB/ICP 4.2, by section.
func TestControllerBlocks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		cmd      Command
		expanded bool
		units    uint32
		item     uint16
	}{
		{"7.4 reset", "10* 10", Reset, false, 0, 0},
		{"7.4 setup", "11* 00 02 00 00 00 13", SetupConfig, false, 0, 0},
		{"7.4 prices", "11* 01 01 F4 00 32 39", SetupPrices, false, 0, 0},
		{"7.4 prices unknown", "11* 01 FF FF 00 00 10", SetupPrices, false, 0, 0},
		{"7.4 poll", "12* 12", Poll, false, 0, 0},
		{"7.4.8 vend request", "13* 00 00 96 00 05 AE", VendRequest, false, 150, 5},
		{"7.4.8 vend request, item unknown", "13* 00 00 96 FF FF A7", VendRequest, false, 150, 0xFFFF},
		{"7.4.8 vend request, 32 bit", "13* 00 00 00 00 96 00 05 AE", VendRequest, true, 150, 5},
		{"7.4 vend cancel", "13* 01 14", VendCancel, false, 0, 0},
		{"7.4 vend success", "13* 02 00 05 1A", VendSuccess, false, 0, 5},
		{"7.4 vend failure", "13* 03 16", VendFailure, false, 0, 0},
		{"7.4 session complete", "13* 04 17", SessionComplete, false, 0, 0},
		{"7.4 reader disable", "14* 00 14", ReaderDisable, false, 0, 0},
		{"7.4 reader enable", "14* 01 15", ReaderEnable, false, 0, 0},
		{"7.4 reader cancel", "14* 02 16", ReaderCancel, false, 0, 0},
		{"7.4 revalue limit", "15* 01 16", RevalueLimit, false, 0, 0},
		{"7.4 revalue request", "15* 00 00 96 AB", Revalue, false, 150, 0},
		{"7.4 revalue request, 32 bit", "15* 00 00 00 00 96 AB", Revalue, true, 150, 0},
		{"7.4 prices, 32 bit", "11* 01 FF FF FF FF 00 00 00 00 19 78 9F", SetupPrices, true, 0, 0},
		{"7.4 cash sale, 32 bit", "13* 05 00 00 00 96 00 05 19 78 44", CashSale, true, 150, 5},
		{"7.4 data entry", "14* 03 31 32 33 34 00 00 00 00 E1", DataEntry, false, 0, 0},
		{"7.4 data entry canceled", "14* 03 FF FF FF FF FF FF FF FF 0F", DataEntry, false, 0, 0},
		{"7.4 diagnostics", "17* FF 16", Diagnostics, false, 0, 0},
		{"7.4 diagnostics, with data", "17* FF 01 02 19", Diagnostics, true, 0, 0},
		{"7.4 request id", "17* 00 56 4D 43" + blanks(24) + " 01 02 00", RequestID, false, 0, 0},
		{"7.4 always idle", "17* 04 00 00 00 20 3B", EnableOptions, false, 0, 0},
	} {
		w := wire(t, c.in)
		data, err := ReadController(w)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if again, err := Controller(data...); err != nil || !slices.Equal(again, w) {
			t.Errorf("%s: back to %X, %v", c.name, again, err)
		}
		a, err := ParseCommand(data, c.expanded)
		if err != nil || a.Command != c.cmd || a.Units != c.units || a.Item != c.item || a.Second {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		data[0] += 0x50
		if a, err := ParseCommand(data, c.expanded); err != nil || !a.Second || a.Command != c.cmd {
			t.Errorf("%s, second device: %+v, %v", c.name, a, err)
		}
	}
	for name, in := range map[string][]byte{
		"empty": {}, "coin changer": {0x08}, "no subcommand": {0x13}, "unknown subcommand": {0x13, 0x09},
		"too short": {0x13, 0x00, 0x00, 0x96}, "too long": {0x13, 0x01, 0x00}, "unknown command": {0x16, 0x00},
		"half an entry": {0x14, 0x03, 0x31}, "diagnostics longer than a block": append([]byte{0x17, 0xFF}, make([]byte, BlockMax-2)...),
	} {
		if a, err := ParseCommand(in, false); !errors.Is(err, ErrBlock) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestPeripheralBlocks(t *testing.T) {
	t.Parallel()
	id := "09 4B 53 4B 30 30 30 30 30 30 30 30 30 30 34 32 45 44 47 45 41 47 45 4E 54 2D 30 31 01 00"
	for _, c := range []struct {
		name, in string
		f        Format
		answers  string // sizes
	}{
		{"7.4 just reset", "00 00*", Format{Level: 1}, "1"},
		{"7.4 reader config", "01 01 19 78 01 02 05 00 9B*", Format{Level: 1}, "8"},
		{"7.4 begin session, level 1", "03 03 E8 EE*", Format{Level: 1}, "3"},
		{"7.4 begin session, 32 bit", "03 00 00 03 E8 FF FF FF FF 00 00 00 65 6E 19 78 02 50*", Format{Level: 3, Expanded: true}, "17"},
		{"7.4.8 approved", "05 00 96 9B*", Format{Level: 1}, "3"},
		{"7.4.8 denied", "06 06*", Format{Level: 1}, "1"},
		{"7.3.1 several in one", "06 0A 07 04 1B*", Format{Level: 1}, "1 2 1"},
		{"7.4 refund lost", "0A C1 CB*", Format{Level: 2}, "2"},
		{"7.4 end session", "07 07*", Format{Level: 1}, "1"},
		{"7.4 cancelled", "08 08*", Format{Level: 1}, "1"},
		{"7.4 out of sequence", "0B 03 0E*", Format{Level: 2}, "2"},
		{"7.4 revalue limit", "0F 13 88 AA*", Format{Level: 2}, "3"},
		{"7.4 revalue limit, 32 bit", "0F 00 00 13 88 AA*", Format{Level: 3, Expanded: true}, "5"},
		{"7.4 revalue approved", "0D 0D*", Format{Level: 2}, "1"},
		{"7.4 revalue denied", "0E 0E*", Format{Level: 2}, "1"},
		{"7.4 data entry request", "12 84 96*", Format{Level: 3}, "2"},
		{"7.4 data entry cancel", "13 13*", Format{Level: 3}, "1"},
		{"7.4 diagnostics", "FF 43 4F 49 01 00 03 00 DE*", Format{Level: 1}, "8"},
		{"7.4 id", id + " 4B*", Format{Level: 2}, "30"},
		{"7.4 id, level 3", id + " 00 00 00 2E 79*", Format{Level: 3}, "34"},
	} {
		w := wire(t, c.in)
		data, err := ReadPeripheral(w)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if again, err := Peripheral(data...); err != nil || !slices.Equal(again, w) {
			t.Errorf("%s: back to %X, %v", c.name, again, err)
		}
		parts, err := Split(data, c.f)
		var got []string
		for _, p := range parts {
			got = append(got, fmt.Sprint(len(p)))
		}
		if strings.Join(got, " ") != c.answers || err != nil {
			t.Errorf("%s: answers of %v, want %s, %v", c.name, got, c.answers, err)
		}
	}
	if d, err := ReadPeripheral(wire(t, "00*")); d != nil || err != nil {
		t.Errorf("ACK: %v %v", d, err)
	}
	if w, err := Peripheral(); err != nil || w[0] != ACK|Mode {
		t.Errorf("ACK: %v %v", w, err)
	}
	if _, err := ReadPeripheral(wire(t, "FF*")); !errors.Is(err, ErrNAK) {
		t.Errorf("NAK: %v", err)
	}
}

// MDB/ICP 4.2, section 2: 36 bytes at most, one mode bit in its place, and the sum.
func TestNotABlock(t *testing.T) {
	t.Parallel()
	long := make([]byte, BlockMax)
	if _, err := Controller(long...); !errors.Is(err, ErrBlock) {
		t.Error(err)
	}
	w, err := Controller(long[:BlockMax-1]...)
	if err != nil || len(w) != BlockMax {
		t.Errorf("36 bytes: %d, %v", len(w), err)
	}
	for in, want := range map[string]error{
		"13* 00 00 96 00 05 AF": ErrChecksum, "13 00 00 96 00 05 AE": ErrBlock, "13* 00 00* 96 00 05 AE": ErrBlock, "10*": ErrBlock, "": ErrBlock,
	} {
		if _, err := ReadController(wire(t, in)); !errors.Is(err, want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	for in, want := range map[string]error{"05 00 96 9B": ErrBlock, "05* 00 96 9B": ErrBlock, "05 00 96 9C*": ErrChecksum, "AA*": ErrBlock} {
		if _, err := ReadPeripheral(wire(t, in)); !errors.Is(err, want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := Split([]byte{0x05, 0x00}, Format{Level: 1}); !errors.Is(err, ErrBlock) {
		t.Error(err)
	}
	if _, err := Split([]byte{0x77}, Format{Level: 1}); !errors.Is(err, ErrBlock) {
		t.Error(err)
	}
}

func FuzzBlock(f *testing.F) {
	f.Add([]byte{0x13, 0, 0, 0x96, 0, 5}, false, uint8(1))
	f.Add([]byte{0x06, 0x0A, 0x07, 0x04}, true, uint8(3))
	f.Add([]byte{0x14, 0x03, 0x31, 0x32, 0x33, 0x34, 0, 0, 0, 0}, true, uint8(3))
	f.Add([]byte{0x17, 0xFF, 1, 2}, false, uint8(2))
	f.Add([]byte{0x15, 0x00, 0, 0, 0, 0x96}, true, uint8(2))
	f.Add([]byte{0x0D, 0x12, 0x84, 0x13, 0x0F, 0x13, 0x88}, false, uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, expanded bool, level uint8) {
		_, _ = ParseCommand(data, expanded)
		if parts, err := Split(data, Format{Level: level, Expanded: expanded, Display: int(level)}); err == nil && !bytes.Equal(bytes.Join(parts, nil), data) {
			t.Fatal("parts are not the whole")
		}
		w, err := Controller(data...)
		if err != nil {
			return
		}
		got, err := ReadController(w)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%X became %X, %v", data, got, err)
		}
		for i := range w {
			bad := slices.Clone(w)
			bad[i] ^= 1 << (i % 9)
			if _, err := ReadController(bad); err == nil {
				t.Fatalf("word %d damaged, and taken", i)
			}
		}
	})
}
