package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/hardware"
	"coinop/protocol/code"
)

// Mode is what a lane sells by, of the ways to pay that its configuration names.
type Mode string

// Modes, best first. A lane that has one way to pay is full with that.
const (
	ModeFull         Mode = "full"
	ModeCashlessOnly Mode = "cashless_only"
	ModeCashOnly     Mode = "cash_only"
	ModeClosedLoop   Mode = "closed_loop_only" // a bank's cards are not taken, or cannot be: the operator's own are
	ModeOut          Mode = "out"
)

// Text is what a buyer is told of a mode, in English. A screen with a language of its own goes by the name.
func (m Mode) Text() string {
	switch m {
	case ModeCashlessOnly:
		return "Cards only, please"
	case ModeCashOnly:
		return "Cash only, please"
	case ModeClosedLoop:
		return "Customer cards only, please"
	case ModeOut:
		return "Out of order: nothing can be bought now"
	case ModeFull:
	}
	return ""
}

// modeAfter is Config.ModeAfter when nothing is said.
const modeAfter = 4 * time.Second

// ModeStatus is how a lane sells.
type ModeStatus struct {
	Mode Mode `json:"mode"`
	// Reason is what is wrong with the ways to pay that are missing, or with the lane.
	Reason code.Code `json:"reason,omitempty"`
	Text   string    `json:"text,omitempty"` // for the buyer
	Since  time.Time `json:"since"`
}

// selling is how a lane sells.
type selling struct {
	now   ModeStatus               // as it was last told; Mode is "" before that
	means string                   // as the session knows it
	away  map[string]time.Duration // Mono since when a part has been away
}

// means is a way to pay.
type means struct {
	name string
	kind Mode      // the mode that has it alone
	away code.Code // what is wrong with it now; "": it works
}

// means are the ways to pay that the configuration of a lane names.
func (s *shell) means(l *lane) (all []means) {
	link := s.device.Link() // no card is taken offline yet: without the bank, or their accounts, a reader is of no use
	if wrong, there := l.reads(Cards.bank); there {
		all = append(all, means{"reader", ModeCashlessOnly, cmp.Or(wrong, linkFault(link.Way()))})
	}
	if wrong, there := l.reads(Cards.own); there {
		all = append(all, means{"own_cards", ModeClosedLoop, cmp.Or(wrong, accountsFault(link))})
	}
	if l.terminal != nil {
		all = append(all, means{"terminal", ModeCashlessOnly, l.wrong(partTerminal)})
	}
	if l.cash != nil {
		m := means{name: "cash", kind: ModeCashOnly}
		if !l.leveled { // a validator that is away leaves the coins
			m.away = cmp.Or(l.wrong(partCash), code.CashUnknown)
		}
		all = append(all, m)
	}
	return all
}

// reads is what is wrong with the readers for cards of a kind; "": one of them works. there: the lane has one.
func (l *lane) reads(kind func(Cards) bool) (wrong code.Code, there bool) {
	for _, r := range l.readers {
		if !kind(r.cards) {
			continue
		}
		w := l.wrong(r.part)
		if w == "" {
			return "", true
		}
		wrong, there = cmp.Or(wrong, w), true
	}
	return wrong, there
}

// accountsFault is why accounts of closed-loop cards cannot be asked: a bank that is away is none.
func accountsFault(l uplink.Link) code.Code {
	switch way := l.Way(); {
	case way == uplink.WayDown || way == uplink.WayCloudDown:
		return linkFault(way)
	case !l.Accounts():
		return code.AccountsAway
	}
	return ""
}

// cardFault is why no card is taken at a lane, as far as the way to who authorizes it goes.
func (l *lane) cardFault(link uplink.Link) code.Code {
	_, banks := l.reads(Cards.bank)
	_, own := l.reads(Cards.own)
	if why := accountsFault(link); own && (why == "" || !banks) {
		return why
	}
	return linkFault(link.Way())
}

// wrong is what a part of a lane says is wrong with it. One that has said nothing yet is not there.
func (l *lane) wrong(p part) code.Code {
	h, said := l.health[p]
	switch {
	case !said:
		return code.PortAbsent
	case h.State == hardware.Ready || h.State == hardware.Degraded:
		return ""
	}
	return cmp.Or(code.Code(h.Code), code.PortAbsent)
}

// held is what is wrong with a part, when it has been for long enough.
func (s *selling) held(name string, now, enough time.Duration, wrong code.Code) code.Code {
	if wrong == "" {
		delete(s.away, name)
		return ""
	}
	if s.away == nil {
		s.away = map[string]time.Duration{}
	}
	since, was := s.away[name]
	if !was {
		since = now
		s.away[name] = now
	}
	if now-since < enough {
		return ""
	}
	return wrong
}

// modeOf is what the ways to pay leave. A lane without any is full: its machine sells for its own cash.
func modeOf(all []means) (mode Mode, why code.Code) {
	kinds, works := map[Mode]bool{}, map[Mode]bool{}
	for _, m := range all {
		kinds[m.kind] = true
		if m.away == "" {
			works[m.kind] = true
		} else {
			why = cmp.Or(why, m.away)
		}
	}
	if len(works) == len(kinds) {
		return ModeFull, ""
	}
	for _, m := range []Mode{ModeCashlessOnly, ModeCashOnly, ModeClosedLoop} {
		if works[m] {
			return m, why
		}
	}
	return ModeOut, why
}

// textOf is what a buyer is told of a mode: one that has cash alone, beside the operator's own cards, is not all of it.
func textOf(mode Mode, all []means) string {
	own := slices.ContainsFunc(all, func(m means) bool { return m.kind == ModeClosedLoop && m.away == "" })
	if mode == ModeCashOnly && own {
		return "Cash or customer cards, please"
	}
	return mode.Text()
}

// modes looks at every lane, once a second: by what it sells, what its buyers are told, and a record of
// each change.
func (s *shell) modes(now time.Duration) error {
	enough := cmp.Or(s.cfg.ModeAfter, modeAfter)
	for _, c := range s.cfg.Lanes {
		l := s.lanes[c.Lane]
		st, ok := s.device.LaneState(c.Lane)
		if l == nil || !ok {
			continue
		}
		all := s.means(l)
		for i, m := range all {
			all[i].away = l.selling.held(m.name, now, enough, m.away)
		}
		mode, why := modeOf(all)
		text := textOf(mode, all)
		pays := ""
		if mode == ModeOut {
			pays = reason(why)
		}
		if pays != l.selling.means {
			l.selling.means = pays
			if err := s.handle(Lane{c.Lane, session.Means{Why: pays}}); err != nil {
				return err
			}
		}
		if shut := l.selling.held("lane", now, enough, s.shut(l, st)); shut != "" {
			mode, why, text = ModeOut, shut, ModeOut.Text()
		}
		if mode == l.selling.now.Mode && why == l.selling.now.Reason && text == l.selling.now.Text {
			continue
		}
		if err := s.newMode(l, mode, why, text); err != nil {
			return err
		}
	}
	return nil
}

// shut is why a lane sells nothing, whatever the ways to pay.
func (s *shell) shut(l *lane, st session.State) code.Code {
	switch {
	case s.device.Link().Stopped() != "":
		return code.Code(s.device.Link().Stopped())
	case st.Tampered():
		return code.Tamper
	case sessionState(s.storage) != session.StorageOK:
		return s.storage
	case strings.HasPrefix(st.Gate(s.now()), "vending_side"):
		return cmp.Or(l.wrong(partVending), code.VendingAway)
	}
	return ""
}

// newMode tells everybody.
func (s *shell) newMode(l *lane, mode Mode, why code.Code, text string) error {
	was := l.selling.now.Mode
	l.selling.now = ModeStatus{Mode: mode, Reason: why, Text: text, Since: time.Now()}
	if mode == was || was == "" && mode == ModeFull {
		return nil
	}
	s.log.Warn("selling mode", "lane", int(l.id), "mode", string(mode), "was", string(was), "reason", string(why), "check", code.Of(why).Next)
	f := Fault{Code: code.SellingMode, Device: fmt.Sprintf("lane %d", l.id), Detail: strings.TrimSpace(string(mode) + " " + string(why))}
	if err := s.handle(f); err != nil {
		return err
	}
	s.service(l.id)
	return nil
}

// idleScreen is the screen of a lane at which nobody buys, and its reason.
func (s *shell) idleScreen(l *lane) (session.Screen, string) {
	m := l.selling.now
	switch {
	case s.locked(l.id):
		return session.ScreenOutOfService, "tamper"
	case sessionState(s.storage) != session.StorageOK:
		return session.ScreenOutOfService, reason(s.storage)
	case m.Mode == ModeOut:
		return session.ScreenOutOfService, reason(m.Reason)
	case m.Mode == ModeFull || m.Mode == "":
		return session.ScreenIdle, ""
	}
	return session.ScreenIdle, string(m.Mode)
}

func (s selling) status() *ModeStatus {
	if s.now.Mode == "" {
		return nil
	}
	return &s.now
}
