package mdb

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
)

// waferTalk is an adapter's line: "> " is a block of ours and what is written for it, "< " what the adapter
// says, "= " the words the driver gets since the line before, "+ " a time that passes.
func waferTalk(t *testing.T, script string) {
	t.Helper()
	m, now, got := &waferMaster{}, time.Hour, ""
	add := func(w []Word) { got = strings.TrimSpace(got + " " + text(w)) }
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		rest := strings.TrimSpace(line[1:])
		switch line[0] {
		case '>':
			says, want, _ := strings.Cut(rest, " -> ")
			data, err := ReadController(wire(t, says))
			if err != nil {
				t.Fatal(line, err)
			}
			out, answer := m.say(now, data)
			if s := text(wordsOf(out)); s != strings.TrimSpace(want) {
				t.Errorf("%s: wrote %q", line, s)
			}
			add(answer)
		case '<':
			add(m.hear(now, []byte(strings.ReplaceAll(rest, `\n`, "\r\n"))))
		case '=':
			if got != rest {
				t.Errorf("%q, want %q", got, rest)
			}
			got = ""
		case '+':
			d, err := time.ParseDuration(rest)
			if err != nil {
				t.Fatal(err)
			}
			now += d
		}
	}
}

func wordsOf(b []byte) (w []Word) {
	for _, c := range b {
		w = append(w, Word(c))
	}
	return w
}

// TestWaferMaster: the exchanges of the manual, and what may go wrong.
func TestWaferMaster(t *testing.T) {
	t.Parallel()
	const tubes = "< 00 00 05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 05 \\n\n"
	for name, script := range map[string]string{
		"setup of a changer": `
			> 09* 09 -> 09
			< 03 11 56 05 01 00 03 01 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 76 \n
			= 03 11 56 05 01 00 03 01 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 76*`,
		"coin type": `
			> 0C* FF FF FF FF 08 -> 0C FF FF FF FF
			< 00 \n
			= 00*`,
		"nobody answers: a POLL asks for something, until it speaks": `
			> 0C* FF FF FF FF 08 -> 0C FF FF FF FF
			< FF \n
			> 0B* 0B -> 0A
			< FF \n
			> 0B* 0B -> 0A
			=
			< 08 0B \n
			> 0B* 0B
			= 0B 0B*`,
		"a POLL asks for something now and then": `
			> 0B* 0B -> 0A
			=
			` + tubes + `
			= 00*
			> 0B* 0B
			= 00*
			+ 2s
			> 0B* 0B -> 0A
			< FF\n
			=`,
		"so of a validator": `
			> 33* 33 -> 36
			< 30 09 \n
			< 00 05 05\n
			= 09 09*`,
		"a coin": `
			> 0C* FF FF FF FF 08 -> 0C FF FF FF FF
			< 00\n
			< 08 51 00 \n
			= 00*
			> 0B* 0B
			= 51 00 51*
			> 0B* 0B
			= 02 02*
			+ 250ms
			> 0B* 0B
			= 00*`,
		"said again it is one coin; later it is another, and an empty POLL between": `
			> 0C* FF FF FF FF 08 -> 0C FF FF FF FF
			< 00\n
			= 00*
			+ 300ms
			< 08 45 00\n
			+ 100ms
			< 08 45 00\n
			+ 300ms
			< 08 45 00\n
			> 0B* 0B
			= 45 00 45*
			> 0B* 0B
			= 00*
			> 0B* 0B
			= 45 00 45*
			> 0B* 0B
			= 00*`,
		"a report whose bytes add up is no answer to a command that is acknowledged": `
			> 0D* 25 32 -> 0D 25
			< 08 50 58\n
			=
			< 00\n
			= 00*
			> 0B* 0B
			= 50 58 A8*`,
		"nor to one that is not waiting": `
			> 0C* FF FF FF FF 08 -> 0C FF FF FF FF
			< 00\n
			= 00*
			< 00\n
			< 03 03\n
			=`,
		"busy until a POLL may have seen it": `
			> 0D* 25 32 -> 0D 25
			< 00\n
			= 00*
			+ 200ms
			> 0B* 0B
			= 02 02*
			< 08 02\n
			+ 200ms
			> 0B* 0B
			= 02 02*
			+ 51ms
			> 0B* 0B
			= 00*`,
		"payout by value": `
			> 0F* 02 07 18 -> 0F 02 07
			< 00\n
			> 0F* 04 13 -> 0F 04
			< 07 07\n
			> 0F* 04 13 -> 0F 04
			< 00\n
			= 00* 07 07* 00*`,
		"a bill": `
			> 34* FF FF FF FF 30 -> 34 FF FF FF FF
			< 00\n
			< 30 90\n
			< 30 80\n
			> 33* 33
			> 33* 33
			= 00* 90 90* 80 80*`,
		"what was told before a RESET is money yet, but no reset": `
			> 08* 08 -> 08
			< 08 0B\n
			< 08 51 00\n
			< 00\n
			< 08 0B\n
			+ 250ms
			> 0B* 0B
			> 0B* 0B
			> 0B* 0B
			= 00* 51 00 51* 0B 0B* 00*`,
		"a wrong sum, an odd digit, no hex, half a line, noise": `
			> 36* 36 -> 36
			< 00 05 06\n
			< 00 05 0\n
			< 00 05 G5\n
			< xx 00 05 05\n
			< 00 05
			=
			< 05\n
			= 00 05 05*`,
		"two lines in one read": `
			> 34* 00 00 00 00 34 -> 34 00 00 00 00
			< 30 09\n00\n08 52 1E\n
			> 33* 33
			> 0B* 0B -> 0A
			= 00* 09 09*`,
		"another device's": `
			< 10 03 00 00\n
			> 12* 12
			=`,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); waferTalk(t, script) })
	}
}

// FuzzWaferMaster: whatever the line brings, what comes out are whole blocks of a device's, and nothing grows.
func FuzzWaferMaster(f *testing.F) {
	f.Add([]byte("08 51 00\r\n00\r\n30 09\r\n03 11 56 05 01 00 03 01 02 00 00 76\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		m, now, words := &waferMaster{}, time.Second, []Word(nil)
		blocks := [][]byte{{0x09}, {0x0B}, {0x33}, {0x31}, {0x0D, 0x25}, {0x0F, 0x00}, {0x36}, {0x0B}}
		for i := 0; len(in) > 0; i++ {
			n := min(1+int(cut)%40, len(in))
			words = append(words, m.hear(now, in[:n])...)
			in = in[n:]
			_, w := m.say(now, blocks[i%len(blocks)])
			words = append(words, w...)
			now += 50 * time.Millisecond
		}
		if cap(m.lines.line) > 4*hexLine || len(m.coins.told) > toldMost || len(m.bills.told) > toldMost {
			t.Fatal("it grows")
		}
		var block []Word
		for _, w := range words {
			if block = append(block, w); w&Mode != 0 {
				if _, err := ReadPeripheral(block); err != nil {
					t.Fatalf("%s: %v", text(block), err)
				}
				block = nil
			}
		}
		if len(block) > 0 {
			t.Fatalf("half a block: %s", text(block))
		}
	})
}

// TestAdapterMasterWakes: what is answered at once reaches who reads, while he waits for the adapter.
func TestAdapterMasterWakes(t *testing.T) {
	t.Parallel()
	ours, far := net.Pipe()
	m := &adapterMaster{Port: ours, now: hardware.Since(), t: &waferMaster{coins: waferPeer{asked: time.Hour}}}
	got := make(chan string)
	go func() {
		defer close(got)
		b := make([]byte, 16)
		for {
			n, err := m.Read(b)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				return
			}
			u := Unmark{Peripheral: true}
			got <- text(u.Add(b[:n]))
		}
	}()
	for range 3 {
		if _, err := m.Write(Mark(wire(t, "0B* 0B"))); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != "00*" {
			t.Errorf("%q", s)
		}
	}
	if _, err := far.Write([]byte("08 51 00\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if s, more := <-got; more {
		t.Errorf("%q", s)
	}
}
