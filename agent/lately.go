package agent

import (
	"fmt"
	"slices"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/code"
)

// Lately is something that went wrong and is over, or that only a person can end: a card that was torn away, change
// that a buyer did not get. It is told for a day after it happened last.
type Lately struct {
	code.Fault
	Device string    `json:"device,omitempty"` // "": the whole
	Detail string    `json:"detail,omitempty"` // of the last time
	At     time.Time `json:"at"`               // it happened last, by this device's clock
	Count  int       `json:"count"`            // that are known of: a start looks at the newest records alone
}

const (
	latelyFor  = 24 * time.Hour
	latelyMost = 16
	// latelyEvery is how often one kind of it is a record: who plays with a scanner does not fill the journal.
	latelyEvery = time.Hour
)

// lateCodes are those of DeviceEvents that belong there. What lasts is told by the device that has it.
var lateCodes = []code.Code{
	code.AgentUnclean, code.CardTorn, code.CashByHand, code.ScannerNotTaken, code.ScannerStale, code.ScannerTooLong, code.ScannerGarbled, code.ScannerTorn,
}

// lately is what happened, the newest last.
type lately []Lately

// see takes it from a record.
func (l *lately) see(o protocol.Opened) {
	lane, at := fmt.Sprintf("lane %d", o.Lane), o.At.Wall.Time()
	switch b := o.Body.(type) {
	case protocol.DeviceEvent:
		if slices.Contains(lateCodes, code.Code(b.Code)) {
			l.note(code.Code(b.Code), b.Device, b.Detail, at)
		}
	case protocol.ChangePaid:
		if b.Short.Minor > 0 {
			l.note(code.CashOwed, lane, fmt.Sprintf("%s short, %s came out: %s", b.Short, b.Given, b.Reason), at)
		}
	case protocol.ChangeUnknown:
		l.note(code.CashUnsure, lane, fmt.Sprintf("%s: %s", b.Amount, b.Reason), at)
	}
}

// note adds one; of the same kind at the same device the last stays, and is counted.
func (l *lately) note(c code.Code, device, detail string, at time.Time) {
	n := Lately{Fault: code.Of(c), Device: device, Detail: detail, At: at, Count: 1}
	for i, was := range *l {
		if was.Code == c && was.Device == device {
			n.Count += was.Count
			*l = slices.Delete(*l, i, i+1)
			break
		}
	}
	*l = append(*l, n)
	*l = (*l)[max(0, len(*l)-latelyMost):]
}

// told are those of the last day. A clock that was put right may make one lie ahead: it is told too.
func (l *lately) told(now time.Time) []Lately {
	return slices.DeleteFunc(slices.Clone(*l), func(n Lately) bool { return now.Sub(n.At) > latelyFor })
}

// happened tells of one, and writes it the first time in an hour.
func (s *shell) happened(l *lane, c code.Code, device, detail string) error {
	name := fmt.Sprintf("lane %d %s", l.id, device)
	key := string(c) + name + detail
	if last, ok := s.wrote[key]; ok && s.mono()-last < latelyEvery {
		s.lately.note(c, name, detail, time.Now())
		return nil
	}
	s.wrote[key] = s.mono()
	return s.handle(Fault{Code: c, Device: name, Detail: detail})
}

// refusedCodes are the reasons for which a scanner's code is declined before anybody looks at it.
var refusedCodes = map[string]code.Code{
	hardware.CodeStale: code.ScannerStale, hardware.CodeTooLong: code.ScannerTooLong, hardware.CodeControl: code.ScannerGarbled, hardware.CodeTorn: code.ScannerTorn,
}
