package mdb

// A UART of eight data bits and a parity bit carries the bus's nine: mark parity is the mode bit, space
// is none (MDB/ICP 4.2, section 2). Linux is told to expect space and to mark what is otherwise
// (INPCK, PARMRK; termios(3)): a byte with the mode bit comes as FF 00 byte, a byte FF as FF FF, and a
// line held down (a break) as FF 00 00. No block begins with address 00, so that is a bus reset.

// Unmark takes the stream of a port apart. The zero value is ready.
type Unmark struct {
	n int
	// Peripheral says that a peripheral's line is read: there FF 00 00 is ACK, not a break.
	Peripheral bool
	// Lost counts sequences no port makes.
	Lost int
}

// Break is a word that is none: the controller held the line down.
const Break Word = 0xFFFF

// Add takes bytes and gives the words that are complete.
func (u *Unmark) Add(b []byte) []Word {
	out := make([]Word, 0, len(b))
	for _, c := range b {
		switch {
		case u.n == 0 && c != 0xFF:
			out = append(out, Word(c))
		case u.n == 0:
			u.n = 1
		case u.n == 1 && c == 0xFF:
			u.n = 0
			out = append(out, 0xFF)
		case u.n == 1 && c == 0:
			u.n = 2
		case u.n == 1: // FF and something else: neither is a word
			u.n = 0
			u.Lost++
		default:
			u.n = 0
			if c == 0 && !u.Peripheral {
				out = append(out, Break)
				continue
			}
			out = append(out, Word(c)|Mode)
		}
	}
	return out
}

// Mark is words as a port that marks parity would give them, for the other end of a socket or a pty,
// which carry no ninth bit.
func Mark(words []Word) []byte {
	out := make([]byte, 0, len(words)+8)
	for _, w := range words {
		switch {
		case w == Break:
			out = append(out, 0xFF, 0, 0)
		case w&Mode != 0:
			out = append(out, 0xFF, 0, byte(w))
		case w == 0xFF:
			out = append(out, 0xFF, 0xFF)
		default:
			out = append(out, byte(w))
		}
	}
	return out
}
