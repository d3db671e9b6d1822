package magstripe

import (
	"errors"
	"math/bits"
	"slices"
)

// Why bits are no track. They never hold what was read.
var (
	ErrNoTrack = errors.New("no track: no start sentinel in either direction")
	ErrParity  = errors.New("not a track: a character's parity is wrong")
	ErrLRC     = errors.New("not a track: the check character is wrong")
	ErrShort   = errors.New("not a track: it ends before its end sentinel")
	ErrLong    = errors.New("not a track: more characters than the standard allows")
	ErrChar    = errors.New("a character that the track has not")
)

// layout is how characters stand on a track (ISO/IEC 7811-6): so many bits of value and one of odd parity,
// least significant first; value 0 is the character zero.
type layout struct {
	width       int
	zero, start byte
	most        int // characters, sentinels and check character among them
}

const end = '?' // sentinel of all three

// layouts are those of tracks 1 to 3.
var layouts = [...]layout{
	{6, 0x20, '%', 79},
	{4, 0x30, ';', 40},
	{4, 0x30, ';', 107},
}

// FromBits reads a track (1 to 3) from its bits, each a byte 0 or 1, as a head gives them that decodes only
// F2F. Zeros before and behind are clocking. The card may have been swiped in either direction: rarely both
// make a track, then it is the longer one, which leaves no bits over. The text begins with the start sentinel
// and ends with the end sentinel.
func FromBits(track int, b []byte) ([]byte, error) {
	l := layouts[track-1]
	text, err := l.read(b)
	back := slices.Clone(b)
	defer clear(back)
	slices.Reverse(back)
	other, otherErr := l.read(back)
	switch {
	case otherErr == nil && (err != nil || len(other) > len(text)):
		clear(text)
		return other, nil
	case err != nil && errors.Is(err, ErrNoTrack):
		return nil, otherErr
	}
	clear(other)
	return text, err
}

// read is FromBits in the one direction.
func (l layout) read(b []byte) (text []byte, err error) {
	i := slices.Index(b, 1) // both start sentinels begin with a 1
	if i < 0 {
		return nil, ErrNoTrack
	}
	defer func() {
		if err != nil {
			clear(text)
			text = nil
		}
	}()
	var lrc byte
	for {
		v, ok, whole := l.value(b[i:])
		switch {
		case !whole && len(text) == 0:
			return text, ErrNoTrack
		case !whole:
			return text, ErrShort
		case len(text) == 0 && v+l.zero != l.start:
			return text, ErrNoTrack
		case !ok:
			return text, ErrParity
		case len(text) > 0 && text[len(text)-1] == end:
			if v != lrc {
				return text, ErrLRC
			}
			return text, nil
		case len(text) >= l.most-1:
			return text, ErrLong
		}
		i += l.width + 1
		lrc ^= v
		text = append(text, v+l.zero)
	}
}

// value is the next character's; ok: its parity is right.
func (l layout) value(b []byte) (v byte, ok, whole bool) {
	if len(b) < l.width+1 {
		return 0, false, false
	}
	for k := range l.width {
		v |= b[k] & 1 << k
	}
	return v, (bits.OnesCount8(v)+int(b[l.width]&1))%2 == 1, true
}

// ToBits writes a track with its sentinels as bits, and its check character behind it.
func ToBits(track int, text []byte) ([]byte, error) {
	l := layouts[track-1]
	lrc, err := LRC(track, text)
	if err != nil {
		return nil, err
	}
	if len(text) > l.most-1 {
		return nil, ErrLong
	}
	out := make([]byte, 0, (len(text)+1)*(l.width+1))
	for i := range len(text) + 1 {
		v := lrc - l.zero
		if i < len(text) {
			v = text[i] - l.zero
		}
		for k := range l.width {
			out = append(out, v>>k&1)
		}
		out = append(out, byte(bits.OnesCount8(v)+1)&1) //nolint:gosec // at most 9
	}
	return out, nil
}

// LRC is the check character of a track with its sentinels: the XOR of the values.
func LRC(track int, text []byte) (byte, error) {
	l := layouts[track-1]
	var lrc byte
	for _, c := range text {
		if c < l.zero || c-l.zero >= 1<<l.width {
			return 0, ErrChar
		}
		lrc ^= c - l.zero
	}
	return lrc + l.zero, nil
}
