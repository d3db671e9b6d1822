package magstripe

import (
	"bytes"
	"slices"
)

// Tracks are what a swipe gave, each with its sentinels; nil is none. They are clear card data: whoever has
// them calls Wipe.
type Tracks struct {
	T    [3][]byte
	Bad  [3]bool // the head could not read it
	Junk int     // bytes that belong to no track
}

// Wipe zeroes them.
func (t Tracks) Wipe() {
	for _, b := range t.T {
		clear(b)
	}
}

// Any reports whether a track was on the card, readable or not.
func (t Tracks) Any() bool {
	for i := range t.T {
		if t.T[i] != nil || t.Bad[i] {
			return true
		}
	}
	return false
}

// FromText reads what heads say that are keyboards or at a serial line: the tracks one behind the other,
// each from its start sentinel to its end sentinel, track 3 with '+' or as the second that begins with ';'.
// A track that could not be read is E: "%E?", ";E?", "+E?". Heads may put the check character behind the
// end sentinel; then it must be right. The result shares no bytes with line.
func FromText(line []byte) Tracks {
	var t Tracks
	for len(line) > 0 {
		track := 0
		switch line[0] {
		case '%':
		case ';':
			if track = 1; t.T[1] != nil || t.Bad[1] {
				track = 2
			}
		case '+':
			track = 2
		default:
			t.Junk++
			line = line[1:]
			continue
		}
		n := bytes.IndexByte(line, end) + 1
		if n == 0 { // torn off
			t.Bad[track] = true
			break
		}
		text := slices.Clone(line[:n])
		text[0] = layouts[track].start
		line = line[n:]
		if bad, lrc := check(track, text); bad {
			clear(text)
			t.Bad[track] = true
		} else if line = afterLRC(line, lrc); t.T[track] == nil {
			t.T[track] = text
		} else { // said twice: which is right?
			clear(text)
			t.Bad[track] = true
		}
	}
	for i, bad := range t.Bad {
		if bad {
			clear(t.T[i])
			t.T[i] = nil
		}
	}
	return t
}

func check(track int, text []byte) (bad bool, lrc byte) {
	if len(text) == 3 && text[1] == 'E' { // "E" is no track 1 either: that has a number
		return true, 0
	}
	lrc, err := LRC(track+1, text)
	return err != nil || len(text) > layouts[track].most-1 || bytes.IndexByte(text[1:], layouts[track].start) >= 0, lrc
}

// afterLRC is what follows the check character, where there is one: it may look like a start sentinel.
func afterLRC(line []byte, lrc byte) []byte {
	if len(line) > 0 && line[0] == lrc && (len(line) == 1 || bytes.IndexByte([]byte("%;+"), line[1]) >= 0) {
		return line[1:]
	}
	return line
}
