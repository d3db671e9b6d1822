package hostsim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Summary is what a behaviour is chosen by.
type Summary struct {
	MTI    string // of the original: 0100 for a 0101 too
	Repeat bool
	TID    string
	STAN   string
	RRN    string
	Amount int64 // minor units
	Actual int64 // DE95; 0 = none
	Reason string
	Last4  string
}

func summary(req message) Summary {
	s := Summary{
		MTI: req.mti[:3] + "0", Repeat: req.mti[3] == '1', TID: strings.TrimSpace(req.f[41]), STAN: req.f[11],
		RRN: strings.TrimSpace(req.f[37]), Amount: minor(req.f[4]), Reason: req.f[39],
	}
	if a := req.f[95]; a != "" {
		s.Actual = minor(a[:12])
	}
	pan := req.f[2]
	if pan == "" {
		pan, _, _ = strings.Cut(req.f[35], "=")
	}
	s.Last4 = pan[max(0, len(pan)-4):]
	return s
}

// Behavior is how the bank treats one message. The zero value approves and answers at once. What
// is booked is what Decline and Partial say; everything else spoils the way back only.
type Behavior struct {
	Decline     string        // DE39; for an advice a soft refusal (91): neither booked nor remembered
	Partial     int64         // approve this much, when less than asked
	Silent      bool          // book it, never answer
	Late        time.Duration // answer after
	Twice       bool          // answer two times
	WrongSTAN   bool          // answer somebody else's STAN
	WrongAmount bool          // answer one minor unit more than was booked
	DropBefore  bool          // close the connection, nothing booked
	DropAfter   bool          // book it, then close the connection without an answer
}

func (b *Bank) misbehave(answer message, how Behavior) []Reply {
	if how.DropAfter {
		return []Reply{{Drop: true}}
	}
	if how.Silent {
		return nil
	}
	if how.WrongSTAN {
		answer.f[11] = fmt.Sprintf("%06d", minor(answer.f[11])%999_999+1)
	}
	if how.WrongAmount && answer.f[4] != "" {
		answer.f[4] = twelve(minor(answer.f[4]) + 1)
	}
	r := Reply{After: how.Late, Frame: b.dialect.write(answer)}
	if how.Twice {
		return []Reply{r, r}
	}
	return []Reply{r}
}

// Magic chooses by the last four digits of an authorization's amount, for hands and scripts; all
// else behaves well. 90xx answers DE39 xx (9010 approves half), 9500 is silent, 9501 30 s late,
// 9502 twice, 9503 with a wrong STAN, 9504 with a wrong amount, 9505 drops the connection before
// booking, 9506 after.
func Magic(_ time.Time, s Summary) Behavior {
	if s.MTI != "0100" && s.MTI != "0200" {
		return Behavior{}
	}
	switch last := s.Amount % 10_000; {
	case last == 9010:
		return Behavior{Partial: s.Amount / 2}
	case last > 9000 && last < 9100:
		return Behavior{Decline: fmt.Sprintf("%02d", last-9000)}
	case last == 9500:
		return Behavior{Silent: true}
	case last == 9501:
		return Behavior{Late: 30 * time.Second}
	case last == 9502:
		return Behavior{Twice: true}
	case last == 9503:
		return Behavior{WrongSTAN: true}
	case last == 9504:
		return Behavior{WrongAmount: true}
	case last == 9505:
		return Behavior{DropBefore: true}
	case last == 9506:
		return Behavior{DropAfter: true}
	}
	return Behavior{}
}

// ParseBehavior reads what a command line says: approve, decline:51, partial:450, silent, late:20s,
// twice, wrong-stan, wrong-amount, drop-before, drop-after, soft (decline:91); several joined by
// commas.
func ParseBehavior(text string) (Behavior, error) {
	var how Behavior
	for word := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(word), ":")
		var err error
		switch name {
		case "approve":
		case "decline":
			if len(value) != 2 {
				err = fmt.Errorf("want a code of two characters")
			}
			how.Decline = value
		case "soft":
			how.Decline = "91"
		case "partial":
			how.Partial, err = strconv.ParseInt(value, 10, 64)
		case "late":
			how.Late, err = time.ParseDuration(value)
		case "silent":
			how.Silent = true
		case "twice":
			how.Twice = true
		case "wrong-stan":
			how.WrongSTAN = true
		case "wrong-amount":
			how.WrongAmount = true
		case "drop-before":
			how.DropBefore = true
		case "drop-after":
			how.DropAfter = true
		default:
			err = fmt.Errorf("want approve, decline:51, partial:450, silent, late:20s, twice, wrong-stan, " +
				"wrong-amount, drop-before, drop-after or soft")
		}
		if err != nil {
			return Behavior{}, fmt.Errorf("behavior %q: %w", word, err)
		}
	}
	return how, nil
}
