package screen

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seller takes what it is told to take.
type seller struct {
	mu     sync.Mutex
	err    error
	orders [][]Line
	gone   []string
}

func (s *seller) Order(_ context.Context, lane uint8, lines []Line, _ Pay) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lane > 0 {
		return "", ErrNoLane
	}
	s.orders = append(s.orders, lines)
	return "sale-1", s.err
}

func (s *seller) Cancel(_ context.Context, sale string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, sale)
	return s.err
}

func (s *seller) Lane(_ context.Context, lane uint8) (Lane, error) {
	if lane > 0 {
		return Lane{}, ErrNoLane
	}
	return Lane{Phase: "idle", Outlets: []Outlet{{1, "Washer", "3.00", "EUR"}}}, nil
}

func started(t *testing.T, s Seller) (*Server, string) {
	t.Helper()
	srv, err := New("127.0.0.1:0", slog.New(slog.DiscardHandler), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	addr, done := make(chan string, 1), make(chan struct{})
	go func() { defer close(done); srv.Run(ctx, func(a string) { addr <- a }) }()
	t.Cleanup(func() { cancel(); <-done })
	return srv, <-addr
}

func ask(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	s := &seller{}
	_, addr := started(t, s)
	base := "http://" + addr
	const good = `{"lane": 0, "lines": [{"outlet": 3, "quantity": 2}, {"outlet": 1}]}`
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		says                     string
	}{
		{"order", "POST", "/v1/orders", good, nil, 202, `{"sale":"sale-1"}`},
		{"own page", "POST", "/v1/orders", good, []string{"Origin", base, "Sec-Fetch-Site", "same-origin"}, 202, "sale-1"},
		{"localhost", "POST", "/v1/orders", good, []string{"Host", "localhost:" + addr[strings.LastIndex(addr, ":")+1:]}, 202, "sale-1"},
		{"::1", "POST", "/v1/orders", good, []string{"Host", "[::1]:80"}, 202, "sale-1"},
		{"rebound name", "POST", "/v1/orders", good, []string{"Host", "evil.example:8480"}, 403, "not a loopback name"},
		{"another page", "POST", "/v1/orders", good, []string{"Origin", "http://evil.example"}, 403, "another page's"},
		{"another port's page", "GET", "/v1/lanes/0", "", []string{"Origin", "http://127.0.0.1:1"}, 403, "another page's"},
		{"no origin of its own", "POST", "/v1/orders", good, []string{"Origin", "null"}, 403, "another page's"},
		{"by a link", "GET", "/v1/lanes/0", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, "comes from another page"},
		{"a form", "POST", "/v1/orders", good, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"no such lane", "POST", "/v1/orders", `{"lane": 1, "lines": [{"outlet": 3}]}`, nil, 404, "no_such_lane"},
		{"a price", "POST", "/v1/orders", `{"lines": [{"outlet": 3, "price": 1}]}`, nil, 400, `unknown field \"price\"`},
		{"nothing", "POST", "/v1/orders", `{"lines": []}`, nil, 400, "want 1 to 20"},
		{"too many", "POST", "/v1/orders", `{"lines": [{"outlet": 3, "quantity": 33}]}`, nil, 400, "at most 32 items"},
		{"negative", "POST", "/v1/orders", `{"lines": [{"outlet": 3, "quantity": -1}]}`, nil, 400, "bad_order"},
		{"two", "POST", "/v1/orders", good + good, nil, 400, "something follows"},
		{"pay", "POST", "/v1/orders", `{"lines": [{"outlet": 3}], "pay": "shells"}`, nil, 400, "bad_order"},
		{"no JSON", "POST", "/v1/orders", "{", nil, 400, "bad_order"},
		{"too large", "POST", "/v1/orders", `{"x":"` + strings.Repeat("x", maxBody) + `"}`, nil, 413, "too_large"},
		{"cancel", "DELETE", "/v1/orders/sale-1", "", nil, 204, ""},
		{"lane", "GET", "/v1/lanes/0", "", nil, 200, `"outlets":[{"outlet":1,"name":"Washer","price":"3.00","currency":"EUR"}]`},
		{"no lane", "GET", "/v1/lanes/7", "", nil, 404, "no_such_lane"},
		{"lane x", "GET", "/v1/lanes/x", "", nil, 404, "numbered from 0"},
		{"events of none", "GET", "/v1/lanes/7/events", "", nil, 404, "no_such_lane"},
		{"elsewhere", "GET", "/", "", nil, 404, "POST /v1/orders"},
		{"wrong method", "PUT", "/v1/orders", good, nil, 404, "POST /v1/orders"},
	} {
		status, says := ask(t, c.method, base+c.path, c.body, c.header...)
		if status != c.status || !strings.Contains(says, c.says) {
			t.Errorf("%s: %d %s", c.name, status, says)
		}
	}
	if len(s.orders) != 4 || len(s.orders[0]) != 2 || s.orders[0][0] != (Line{3, 2}) || s.orders[0][1] != (Line{1, 1}) || len(s.gone) != 1 {
		t.Errorf("%v %v", s.orders, s.gone)
	}
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{{&Refusal{"busy"}, 409, `"reason":"busy"`}, {ErrNoSale, 404, "no_such_sale"}, {errors.New("secret detail"), 503, "not_now"}} {
		s.mu.Lock()
		s.err = c.err
		s.mu.Unlock()
		for _, m := range []string{"POST", "DELETE"} {
			path, body := "/v1/orders", good
			if m == "DELETE" {
				path, body = path+"/x", ""
			}
			if status, says := ask(t, m, base+path, body); status != c.status || !strings.Contains(says, c.says) || strings.Contains(says, "secret") {
				t.Errorf("%s, %v: %d %s", m, c.err, status, says)
			}
		}
	}
}

// TestEvents: the present screen first, then each as it is shown, of this lane alone; who does not read is
// cut off and holds nobody up.
func TestEvents(t *testing.T) {
	t.Parallel()
	srv, addr := started(t, &seller{})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v1/lanes/0/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Error(answer.Header)
	}
	lines := bufio.NewScanner(answer.Body)
	next := func() string {
		for lines.Scan() {
			if d, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return d
			}
		}
		t.Fatal("no more events")
		return ""
	}
	if d := next(); d != `{"screen":"idle"}` {
		t.Error(d)
	}
	srv.Show(1, Shown{Screen: "vending"})
	srv.Show(0, Shown{Screen: "price", Amount: "3.00", Money: "EUR", Sale: "s"})
	if d := next(); d != `{"screen":"price","amount":"3.00","currency":"EUR","sale":"s"}` {
		t.Error(d)
	}
	slow := make(chan Shown, 1)
	srv.mu.Lock()
	srv.watch[slow] = 0
	srv.mu.Unlock()
	for range 3 {
		srv.Show(0, Shown{Screen: "thanks"})
	}
	<-slow
	if _, ok := <-slow; ok {
		t.Error("a slow one is not cut off")
	}
	if _, says := ask(t, "GET", "http://"+addr+"/v1/lanes/0", ""); !strings.Contains(says, `"shown":{"screen":"thanks"}`) {
		t.Error(says)
	}
}

// TestManyWatch: there is a bound, and who leaves makes room.
func TestManyWatch(t *testing.T) {
	t.Parallel()
	srv, addr := started(t, &seller{})
	srv.mu.Lock()
	for range maxWatchers {
		srv.watch[make(chan Shown, 1)] = 9
	}
	srv.mu.Unlock()
	if status, says := ask(t, "GET", "http://"+addr+"/v1/lanes/0/events", ""); status != 503 || !strings.Contains(says, "too_many") {
		t.Errorf("%d %s", status, says)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"0.0.0.0:1", ":1", "192.0.2.1:1", "example.com:1", "127.0.0.1", ""} {
		if _, err := New(bad, nil, nil); err == nil {
			t.Errorf("%q is a loopback address", bad)
		}
	}
	// A port that another has is taken as soon as it is free.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := New(l.Addr().String(), slog.New(slog.DiscardHandler), &seller{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	up, done := make(chan string, 1), make(chan struct{})
	go func() { defer close(done); srv.Run(ctx, func(a string) { up <- a }) }()
	_ = l.Close()
	if got := <-up; got != l.Addr().String() {
		t.Error(got)
	}
	cancel()
	<-done
}

func FuzzOrder(f *testing.F) {
	for _, s := range []string{`{"lane": 0, "lines": [{"outlet": 3, "quantity": 2}]}`, `{"lines": [{}]}`, `[]`, `{"lane": 256}`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := readOrder(strings.NewReader(s))
		if err != nil {
			return
		}
		items := 0
		for _, l := range o.Lines {
			if l.Quantity == 0 {
				t.Fatal("a line of nothing")
			}
			items += int(l.Quantity)
		}
		if items == 0 || items > MaxItems || len(o.Lines) > maxLines {
			t.Fatalf("%+v", o)
		}
	})
}
