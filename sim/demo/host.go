package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"coinop/cloud/acquirer/hostsim"
)

// HostOptions is a bank on a socket. Listen and Books are needed.
type HostOptions struct {
	Listen  string
	Books   string        // file, synced before an answer leaves
	Behave  string        // "magic" (the default): by amount, hostsim.Magic; else hostsim.ParseBehavior
	Latency time.Duration // before every answer
	Ready   func(addr string)
}

// RunHost serves until ctx ends. What stood in the books before stands again.
func RunHost(ctx context.Context, o HostOptions) error {
	behave := hostsim.Magic
	if o.Behave != "" && o.Behave != "magic" {
		how, err := hostsim.ParseBehavior(o.Behave)
		if err != nil {
			return err
		}
		behave = func(time.Time, hostsim.Summary) hostsim.Behavior { return how }
	}
	bank := hostsim.NewBank(hostsim.Options{Behave: func(now time.Time, s hostsim.Summary) hostsim.Behavior {
		b := behave(now, s)
		b.Late += o.Latency
		return b
	}})
	srv, err := hostsim.Open(hostsim.Config{Bank: bank, Listen: o.Listen, Books: o.Books})
	if err != nil {
		return err
	}
	if o.Ready != nil {
		o.Ready(srv.Addr())
	}
	return srv.Run(ctx)
}

// readHost reads a host's books from its file.
func readHost(path string) ([]hostsim.Entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	bank := hostsim.NewBank(hostsim.Options{})
	for line := range strings.Lines(string(text)) {
		var l hostsim.Line
		err := json.Unmarshal([]byte(line), &l)
		if err == nil {
			err = bank.Load(l)
		}
		if err != nil {
			return nil, fmt.Errorf("read books %s: %w", path, err)
		}
	}
	return bank.Books(), nil
}
