package agent

import (
	"context"
	"strings"

	"coinop/agent/session"
	"coinop/hardware"
	"coinop/hardware/scanner"
	"coinop/protocol/code"
	"coinop/protocol/emvqr"
)

// Scanner is a reader of codes that Supervise can open.
type Scanner interface {
	hardware.Scanner
	Open(context.Context) (hardware.Driver, error)
}

// CodeScanner is a scanner at a serial line, or one that is a keyboard.
func CodeScanner(c scanner.Config) func(Wiring) (Scanner, error) {
	return func(w Wiring) (Scanner, error) {
		c.Clock = w.Clock
		return scanner.New(c, w.Out), nil
	}
}

// reasonCode is what a buyer is told who shows a code: nobody is paid by one yet.
const reasonCode = "code_not_taken"

// scanned is a code before a lane's scanner. It is refused by name, and recorded by its kind; the code itself
// goes nowhere.
func (s *shell) scanned(l *lane, c hardware.CodeRead) error {
	text := c.Code.Reveal()
	c.Code.Wipe()
	kind := codeKind(emvqr.Classify(string(text)))
	clear(text)
	s.log.Info("code not taken", "lane", int(l.id), "kind", kind)
	if err := s.refuseCode(l, reasonCode); err != nil {
		return err
	}
	return s.happened(l, code.ScannerNotTaken, "scanner", kind)
}

// refuseCode tells the buyer: as of a card that cannot be used where he is to pay, else where nobody buys. One
// who has paid is not disturbed.
func (s *shell) refuseCode(l *lane, reason string) error {
	st, ok := s.device.LaneState(l.id)
	switch {
	case !ok:
	case st.Accepting() && !st.Idle():
		return s.handle(Lane{l.id, session.CardFailed{Reason: reason}})
	case st.Idle() && st.Gate(s.now()) == "": // else the screen says that nothing is sold
		delete(s.agent.sale, l.id) // it is about no sale
		s.show(l.id, session.ScreenRefused, st.Due(), reason)
	}
	return nil
}

// codeKind names what a code can be.
func codeKind(kinds []emvqr.Kind) string {
	if len(kinds) == 0 {
		return "other"
	}
	var names []string
	for _, k := range kinds {
		names = append(names, k.String())
	}
	return strings.Join(names, " or ")
}
