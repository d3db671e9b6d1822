package configs

import (
	"strconv"
	"strings"
)

// PlacedReader is a reader and its key in its lane: reader, readers.0.
type PlacedReader struct {
	Reader
	Key string
}

// AllReaders are a lane's, the first of them first.
func (l Lane) AllReaders() (all []PlacedReader) {
	if l.Reader != nil {
		all = append(all, PlacedReader{*l.Reader, "reader"})
	}
	for i, r := range l.Readers {
		all = append(all, PlacedReader{r, "readers." + strconv.Itoa(i)})
	}
	return all
}

// checkReader finds what no single value of a reader shows.
func (a Agent) checkReader(at string, r Reader) (ps []Problem) {
	for _, k := range []struct{ key, value string }{
		{"head", r.Head}, {"bank_cards", r.BankCards}, {"own_cards", strings.Join(r.OwnCards, " ")},
	} {
		if r.Driver != "magstripe" && k.value != "" {
			ps = append(ps, a.Refuse(at+k.key, "is for a reader of stripes, and the driver is "+r.Driver, "write driver: magstripe, or remove the line"))
		}
	}
	if r.ChipCards != "" && r.Driver != "magstripe" && r.Driver != "vivopay" {
		ps = append(ps, a.Refuse(at+"chip_cards", "is for a reader that has a head for stripes, and the driver is "+r.Driver, "write driver: magstripe or vivopay, or remove the line"))
	}
	for _, own := range r.OwnCards {
		if from, to := CardRange(own); len(from) != len(to) || from > to {
			ps = append(ps, a.Refuse(at+"own_cards", strconv.Quote(own)+" is no range of first digits", "as many digits on both sides, the smaller first: 600000-600099"))
		}
	}
	return append(ps, a.checkLoopReader(at, r)...)
}

// CardRange is the first and the last of a range of first digits, as "600000-600099"; one alone is both.
func CardRange(own string) (from, to string) {
	from, to, ok := strings.Cut(own, "-")
	if !ok {
		to = from
	}
	return from, to
}

// checkLoopReader finds what a reader of closed-loop cards needs, and another does not have.
func (a Agent) checkLoopReader(key string, r Reader) (ps []Problem) {
	if r.Driver == "pn532" && r.Port == Auto {
		ps = append(ps, a.Refuse(key+"port", "a serial port does not say that a pn532 hangs at it", "write the path; ls -l /dev/serial/by-id shows what is there; I2C is /dev/i2c-1"))
	}
	if r.Driver == "pcsc" && r.Port != Auto {
		ps = append(ps, a.Refuse(key+"port", "is for readers at a port, and pcscd has that of this one", "write name: with the reader's name, or remove the line"))
	}
	if r.Driver != "pcsc" && r.Name != "" {
		ps = append(ps, a.Refuse(key+"name", "is for a reader behind pcscd, and the driver is "+r.Driver, "write driver: pcsc, or remove the line"))
	}
	if r.Unproven != "" && r.Driver != "pn532" && r.Driver != "pcsc" {
		ps = append(ps, a.Refuse(key+"unproven_cards", "is for closed-loop cards with a chip, and the driver is "+r.Driver, "write driver: pn532 or pcsc, or remove the line"))
	}
	if r.Driver != "pn532" && r.Driver != "pcsc" && r.Keys != "" {
		ps = append(ps, a.Refuse(key+"keys_file", "is for closed-loop cards, and the driver is "+r.Driver, "write driver: pn532 or pcsc, or remove the line"))
	}
	return ps
}
