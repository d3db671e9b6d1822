// Package screen is how a program on the same box orders at a lane and sees what the buyer is shown: HTTP on
// the loopback address alone.
//
//	POST   /v1/orders            {"lane": 0, "lines": [{"outlet": 3, "quantity": 1}]} -> 202 {"sale": "…"}
//	                             "pay": "cash" where a payment terminal stands there too, and is not to be asked
//	DELETE /v1/orders/{sale}     the buyer has changed his mind -> 204
//	GET    /v1/lanes/{n}         what stands there and what it costs, and how it is doing
//	GET    /v1/lanes/{n}/events  server-sent events: each screen as it is shown, the present one first
//
// What is ordered costs what the plan of the outlets says: a caller gives no price. An order that cannot be
// is 409 with the reason by name; every error is {"reason": …, "detail": …}.
//
// Whoever may connect may order, and nobody pays without a card: the door is for the programs of this box.
// Pages of other origins are kept out, also those that have their name resolve to us (DNS rebinding): the
// Host must be a loopback name, an Origin our own, and an order says that it is JSON.
package screen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Bounds.
const (
	maxBody     = 16 << 10
	maxLines    = 20
	MaxItems    = 32 // of one order
	maxWatchers = 16
	maxWaiting  = 32 // screens one watcher is behind; then he is cut off, and comes again
	aliveEvery  = 15 * time.Second
	answerIn    = 5 * time.Second
)

// Seller is the agent. Its errors are a *Refusal, ErrNoSale, or else that it cannot answer now.
type Seller interface {
	Order(ctx context.Context, lane uint8, lines []Line, pay Pay) (sale string, err error)
	Cancel(ctx context.Context, sale string) error
	Lane(ctx context.Context, lane uint8) (Lane, error)
}

// Pay is how an order is paid: by card, in cash, or "" as the lane does it: a terminal first.
type Pay string

// Ways to pay.
const (
	PayCard Pay = "card"
	PayCash Pay = "cash"
)

// Line is one position of an order.
type Line struct {
	Outlet   uint16 `json:"outlet"`
	Quantity uint16 `json:"quantity"` // 1 when it is not said
}

// Lane is how a lane stands.
type Lane struct {
	Lane    uint8    `json:"lane"`
	Phase   string   `json:"phase"`
	Sale    string   `json:"sale,omitempty"`    // the live one
	Refuses string   `json:"refuses,omitempty"` // why no order would be taken now
	Outlets []Outlet `json:"outlets"`           // what can be ordered
	Shown   Shown    `json:"shown"`
}

// Outlet is something that can be ordered.
type Outlet struct {
	Number uint16 `json:"outlet"`
	Name   string `json:"name"`
	Price  string `json:"price"` // "3.00"
	Money  string `json:"currency"`
}

// Shown is what the buyer is shown: a screen and a reason by name.
type Shown struct {
	Screen string `json:"screen"`
	Amount string `json:"amount,omitempty"` // "3.00"
	Money  string `json:"currency,omitempty"`
	Reason string `json:"reason,omitempty"`
	Sale   string `json:"sale,omitempty"` // that it is about
	Text   string `json:"text,omitempty"` // what a payment terminal shows, to be shown as it is; else what the reason means, in English
}

// Refusal is an order or a cancellation that cannot be; Reason is a name.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return "refused: " + r.Reason }

// Errors of a Seller.
var (
	ErrNoSale = errors.New("there is no such live sale")
	ErrNoLane = errors.New("there is no such lane")
)

// Server is the HTTP side. New starts nothing.
type Server struct {
	listen string
	log    *slog.Logger
	seller Seller

	mu    sync.Mutex
	shown map[uint8]Shown
	watch map[chan Shown]uint8
}

// New is a server for an address, which must be a loopback one; port 0 is any free one.
func New(listen string, log *slog.Logger, seller Seller) (*Server, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || !loopback(host) {
		return nil, fmt.Errorf("screen %s: want host:port of a loopback address, as 127.0.0.1:8480", listen)
	}
	return &Server{listen: listen, log: log, seller: seller, shown: map[uint8]Shown{}, watch: map[chan Shown]uint8{}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Run serves until ctx ends, and returns after the last request has. A port that another has is tried again.
// ready, which may be nil, gets the address each time it is open.
func (s *Server) Run(ctx context.Context, ready func(addr string)) {
	said := false
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.listen)
		if err == nil {
			said = false
			s.log.Info("orders are taken over HTTP", "address", l.Addr().String())
			if ready != nil {
				ready(l.Addr().String())
			}
			err = s.serve(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		if !said {
			said = true
			s.log.Error("no orders over HTTP", "error", err, "check", "has another program the port of screen.listen?")
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	var end sync.WaitGroup
	served := make(chan struct{})
	end.Go(func() {
		select {
		case <-ctx.Done():
		case <-served:
		}
		short, done := context.WithTimeout(context.WithoutCancel(ctx), answerIn)
		defer done()
		if h.Shutdown(short) != nil {
			_ = h.Close()
		}
	})
	err := h.Serve(l)
	close(served)
	end.Wait()
	return err
}

// Show tells those who watch a lane what is shown there. It does not wait.
func (s *Server) Show(lane uint8, what Shown) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown[lane] = what
	for c, of := range s.watch {
		if of != lane {
			continue
		}
		select {
		case c <- what:
		default:
			delete(s.watch, c)
			close(c)
		}
	}
}

// now is what a lane shows; mu is held. Before the first buyer that is nothing in particular.
func (s *Server) now(lane uint8) Shown {
	if what, ok := s.shown[lane]; ok {
		return what
	}
	return Shown{Screen: "idle"}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/orders", s.order)
	mux.HandleFunc("DELETE /v1/orders/{sale}", s.cancel)
	mux.HandleFunc("GET /v1/lanes/{n}", s.lane)
	mux.HandleFunc("GET /v1/lanes/{n}/events", s.events)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "not_found", "there are POST /v1/orders, DELETE /v1/orders/{sale}, GET /v1/lanes/{n} and GET /v1/lanes/{n}/events")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if why := foreign(r); why != "" {
			refuse(w, http.StatusForbidden, "foreign", why)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// foreign says why a request is none of a program of this box.
func foreign(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if len(host) > 2 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	if !loopback(host) {
		return "the Host is not a loopback name"
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Scheme != "http" || u.Host != r.Host {
			return "the Origin is another page's"
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return ""
	}
	return "the request comes from another page"
}

func refuse(w http.ResponseWriter, status int, reason, detail string) {
	say(w, status, map[string]string{"reason": reason, "detail": detail})
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// fail answers a Seller's error.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		refuse(w, http.StatusConflict, r.Reason, "it cannot be now; the reason is a name")
	case errors.Is(err, ErrNoSale):
		refuse(w, http.StatusNotFound, "no_such_sale", err.Error())
	case errors.Is(err, ErrNoLane):
		refuse(w, http.StatusNotFound, "no_such_lane", err.Error())
	default:
		s.log.Warn("order not answered", "error", err)
		refuse(w, http.StatusServiceUnavailable, "not_now", "the agent cannot answer; whether the order was taken, the lane's events say")
	}
}

type order struct {
	Lane  uint8  `json:"lane"`
	Lines []Line `json:"lines"`
	Pay   Pay    `json:"pay"`
}

func (s *Server) order(w http.ResponseWriter, r *http.Request) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "not_json", "send Content-Type: application/json")
		return
	}
	o, err := readOrder(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("an order has at most %d bytes", maxBody))
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, "bad_order", err.Error())
		return
	}
	ctx, done := context.WithTimeout(r.Context(), answerIn)
	defer done()
	sale, err := s.seller.Order(ctx, o.Lane, o.Lines, o.Pay)
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Location", "/v1/orders/"+sale)
	say(w, http.StatusAccepted, map[string]string{"sale": sale})
}

// readOrder reads an order, strictly.
func readOrder(from io.Reader) (order, error) {
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	var o order
	if err := d.Decode(&o); err != nil {
		return o, fmt.Errorf(`want {"lane": 0, "lines": [{"outlet": 1, "quantity": 1}]}: %w`, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, errors.New("something follows the order")
	}
	if len(o.Lines) == 0 || len(o.Lines) > maxLines {
		return o, fmt.Errorf("lines: want 1 to %d", maxLines)
	}
	if o.Pay != "" && o.Pay != PayCard && o.Pay != PayCash {
		return o, errors.New(`pay: want "card" or "cash", or leave it out`)
	}
	items := 0
	for i := range o.Lines {
		if o.Lines[i].Quantity == 0 {
			o.Lines[i].Quantity = 1
		}
		items += int(o.Lines[i].Quantity)
	}
	if items > MaxItems {
		return o, fmt.Errorf("quantity: an order has at most %d items", MaxItems)
	}
	return o, nil
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	ctx, done := context.WithTimeout(r.Context(), answerIn)
	defer done()
	if err := s.seller.Cancel(ctx, r.PathValue("sale")); err != nil {
		s.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// number is the lane of a path.
func number(w http.ResponseWriter, r *http.Request) (uint8, bool) {
	n, err := strconv.ParseUint(r.PathValue("n"), 10, 8)
	if err != nil {
		refuse(w, http.StatusNotFound, "no_such_lane", "lanes are numbered from 0")
	}
	return uint8(n), err == nil
}

func (s *Server) look(r *http.Request, n uint8) (Lane, error) {
	ctx, done := context.WithTimeout(r.Context(), answerIn)
	defer done()
	l, err := s.seller.Lane(ctx, n)
	s.mu.Lock()
	l.Shown = s.now(n)
	s.mu.Unlock()
	return l, err
}

func (s *Server) lane(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r)
	if !ok {
		return
	}
	l, err := s.look(r, n)
	if err != nil {
		s.fail(w, err)
		return
	}
	say(w, http.StatusOK, l)
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r)
	if !ok {
		return
	}
	if _, err := s.look(r, n); err != nil {
		s.fail(w, err)
		return
	}
	c := make(chan Shown, maxWaiting)
	s.mu.Lock()
	if len(s.watch) >= maxWatchers {
		s.mu.Unlock()
		refuse(w, http.StatusServiceUnavailable, "too_many", fmt.Sprintf("%d watch already", maxWatchers))
		return
	}
	c <- s.now(n)
	s.watch[c] = n
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watch, c)
	}()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	_ = out.Flush()
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		text := ": alive\n\n"
		select {
		case <-r.Context().Done():
			return
		case <-alive.C:
		case what, ok := <-c:
			if !ok {
				return // he was too slow
			}
			b, err := json.Marshal(what)
			if err != nil {
				return
			}
			text = "event: screen\ndata: " + string(b) + "\n\n"
		}
		_ = out.SetWriteDeadline(time.Now().Add(answerIn))
		if _, err := io.WriteString(w, text); err != nil || out.Flush() != nil {
			return
		}
	}
}
