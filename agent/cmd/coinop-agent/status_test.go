package main

import (
	"strings"
	"testing"
	"time"

	"coinop/agent"
)

// What a technician reads of a changer.
func TestStatusOfCash(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]agent.CashStatus{
		"change  not known: no cash is taken": {},
		"change  4.50 EUR: 5 x 0.50 EUR, 2 x 1.00 EUR (full)": {
			Known: true, Change: "4.50 EUR", Tubes: []agent.Tube{{Value: "0.50 EUR", Count: 5}, {Value: "1.00 EUR", Count: 2, Full: true}},
		},
		"change  0.10 EUR, exact money only: 1 x 0.10 EUR": {Known: true, Change: "0.10 EUR", Exact: true, Tubes: []agent.Tube{{Value: "0.10 EUR", Count: 1}}},
	} {
		var out strings.Builder
		st := agent.Status{Running: agent.IsRunning, At: time.Now(), Lanes: []agent.LaneStatus{{Phase: "idle", Cash: &c}}}
		if err := printStatus(&out, st); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("want %q, %v:\n%s", want, err, out.String())
		}
	}
}

// What a technician reads of a payment terminal.
func TestStatusOfTerminal(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.Local)
	for want, c := range map[string]agent.TerminalStatus{
		"terminal  not here, owes: cancel":                           {Owes: "cancel"},
		"terminal  id 52523535, wants its day ended":                 {ID: "52523535", Here: true, Due: true},
		"terminal  id 52523535, day ended 2026-11-26 03:00:00":       {ID: "52523535", Here: true, Closed: at},
		"terminal  id 52523535, owes: answer, day ended 2026-11-26 ": {ID: "52523535", Here: true, Closed: at, Owes: "answer"},
	} {
		var out strings.Builder
		st := agent.Status{Running: agent.IsRunning, At: time.Now(), Lanes: []agent.LaneStatus{{Phase: "idle", Terminal: &c}}}
		if err := printStatus(&out, st); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("want %q, %v:\n%s", want, err, out.String())
		}
	}
}
