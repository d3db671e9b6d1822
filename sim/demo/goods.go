package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"coinop/agent"
	"coinop/hardware/virtual"
	"coinop/protocol"
)

// view is what a buyer can see of the side that gives out the goods.
type view struct {
	asks      int  // orders that were made
	approvals int  // it has begun to give something out
	denials   int  // orders that were refused
	results   int  // orders that have ended
	drops     int  // what fell
	open      bool // the last order has not ended
}

// goods is that side: what is ordered at it, and what it does.
type goods interface {
	run(ctx context.Context)
	misbehave(f virtual.Fault) error
	takes(ctx context.Context) bool // orders, now or in a moment
	choose(ctx context.Context, p product, pay string) error
	cancel()
	look() view
	wait(ctx context.Context, ok func(view) bool) error
}

// vending is a vending machine: behind a Qibixx adapter, or at a raw port of its MDB bus.
type vending struct{ controller }

type controller interface {
	Run(ctx context.Context) error
	Select(o protocol.Outlet) error
	Cancel() error
	Misbehave(f virtual.Fault) error
	View() virtual.View
	Wait(ctx context.Context, ok func(virtual.View) bool) error
}

// newVending is one with cash of its own at a raw port, or one without behind an adapter.
func newVending(o MachineOptions, all []virtual.Product, till *virtual.Till) (goods, error) {
	cfg := virtual.MachineConfig{Link: filepath.Join(o.Dir, VMCFile), Drops: filepath.Join(o.Dir, DropsFile), Products: all, VendTime: o.VendTime}
	if till == nil {
		m, err := virtual.NewMachine(cfg)
		return vending{m}, err
	}
	m, err := virtual.NewController(virtual.ControllerConfig{MachineConfig: cfg, Till: till})
	return vending{m}, err
}

func (v vending) run(ctx context.Context)                             { _ = v.Run(ctx) }
func (v vending) misbehave(f virtual.Fault) error                     { return v.Misbehave(f) }
func (v vending) cancel()                                             { _ = v.Cancel() }
func (v vending) choose(_ context.Context, p product, _ string) error { return v.Select(p.outlet) }

func (v vending) takes(ctx context.Context) bool {
	return v.Wait(ctx, func(v virtual.View) bool { return v.Status == "ENABLED" }) == nil
}

func seen(v virtual.View) view {
	return view{v.Requests, v.Approvals, v.Denials, v.Results, v.Drops, v.Status == "VEND"}
}

func (v vending) look() view { return seen(v.View()) }

func (v vending) wait(ctx context.Context, ok func(view) bool) error {
	return v.Wait(ctx, func(v virtual.View) bool { return ok(seen(v)) })
}

// outlets is a relay board with machines behind it. Buyers press their buttons, or order at a screen: then
// this is the kiosk's ordering program too. Either way they see what the agent shows.
type outlets struct {
	board  *virtual.Board
	dir    string
	screen bool // orders are made at it

	mu      sync.Mutex // guards what follows
	asks    int
	denials int
	results int
	open    bool
	sale    string // of the open order, where the screen ordered it
}

func newOutlets(o MachineOptions, d description) (goods, error) {
	cfg := virtual.BoardConfig{Link: filepath.Join(o.Dir, VMCFile), Drops: filepath.Join(o.Dir, DropsFile)}
	for _, p := range d.products {
		cfg.Outlets = append(cfg.Outlets, virtual.BoardOutlet{
			Product: p.at(o.Currency), Relay: p.relay, Pulses: p.pulses, Least: p.on * 4 / 5, Feedback: p.feedback, Busy: 200 * time.Millisecond, Button: p.button,
		})
	}
	b, err := virtual.NewBoard(cfg)
	return &outlets{board: b, dir: o.Dir, screen: d.screen}, err
}

func (g *outlets) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			_ = g.follow(ctx) // the agent is away: it comes again
			sleep(ctx, 50*time.Millisecond)
		}
	})
	_ = g.board.Run(ctx)
	all.Wait()
}

// misbehave: a board is no controller; what it can do wrong in place of a reset is to say nothing more.
func (g *outlets) misbehave(f virtual.Fault) error {
	switch f {
	case virtual.FaultResetDrop:
		f = virtual.FaultSilentDrop
	case virtual.FaultResetJam:
		f = virtual.FaultSilentJam
	default:
	}
	return g.board.Misbehave(f)
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask asks the agent, where it says it is.
func (g *outlets) ask(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	addr, err := os.ReadFile(filepath.Join(g.dir, "data", agent.ScreenFile))
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+strings.TrimSpace(string(addr))+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	return client.Do(r)
}

// says asks and reads the answer into v.
func (g *outlets) says(ctx context.Context, method, path string, body []byte, status int, v any) error {
	ctx, done := context.WithTimeout(ctx, 2*time.Second)
	defer done()
	a, err := g.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(a.Body, 1<<16))
	if err == nil && a.StatusCode != status {
		err = fmt.Errorf("%s %s: %s %s", method, path, a.Status, b)
	}
	if err != nil || v == nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// follow watches the lane's screen.
func (g *outlets) follow(ctx context.Context) error {
	a, err := g.ask(ctx, http.MethodGet, "/v1/lanes/0/events", nil)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }()
	first := true
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var s struct{ Screen, Reason, Sale string }
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return err
		}
		if first = false; s.Reason != "busy" {
			g.shown(s.Screen, s.Sale)
		}
	}
	if first {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (g *outlets) shown(screen, sale string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open || g.sale != "" && g.sale != sale {
		return
	}
	switch screen {
	case "thanks":
		g.results++
		g.open = false
	case "refused", "not_charged", "out_of_service", "other_card": // he has no other card
		g.denials++
		g.results++
		g.open = false
	}
}

func (g *outlets) takes(ctx context.Context) bool {
	for ctx.Err() == nil {
		var l struct{ Phase, Refuses string }
		if g.says(ctx, http.MethodGet, "/v1/lanes/0", nil, http.StatusOK, &l) == nil && l.Phase == "idle" && l.Refuses == "" {
			return true
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return false
}

func (g *outlets) choose(ctx context.Context, p product, pay string) error {
	begin := func(sale string) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.asks++
		g.open, g.sale = true, sale
	}
	if !g.screen {
		begin("")
		return g.board.Press(p.outlet)
	}
	body, err := json.Marshal(map[string]any{"lane": 0, "pay": pay, "lines": []map[string]any{{"outlet": p.outlet, "quantity": 1}}})
	if err != nil {
		return err
	}
	var taken struct{ Sale string }
	if err := g.says(ctx, http.MethodPost, "/v1/orders", body, http.StatusAccepted, &taken); err != nil {
		return err
	}
	begin(taken.Sale)
	return nil
}

func (g *outlets) cancel() {
	g.mu.Lock()
	sale := g.sale
	g.mu.Unlock()
	if sale != "" {
		_ = g.says(context.Background(), http.MethodDelete, "/v1/orders/"+sale, nil, http.StatusNoContent, nil)
	}
}

func (g *outlets) look() view {
	b := g.board.View()
	g.mu.Lock()
	defer g.mu.Unlock()
	return view{g.asks, b.Begun, g.denials, g.results, b.Drops, g.open}
}

func (g *outlets) wait(ctx context.Context, ok func(view) bool) error {
	for !ok(g.look()) {
		if !sleep(ctx, 5*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// errKind means a kind of machine that there is none of.
var errKind = errors.New("want vending, snack, kiosk or laundry")
