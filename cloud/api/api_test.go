package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"coinop/cloud"
	"coinop/cloud/account"
	"coinop/cloud/acquirer"
	"coinop/cloud/api"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/protocol"
	"coinop/protocol/money"

	"github.com/prometheus/client_golang/prometheus"
)

const t0 = protocol.UnixMS(1_800_000_000_000)

func eur(minor int64) money.Amount { return money.New(minor, money.EUR) }

// ledger is a store with sales in it: sale n was made n seconds after t0.
type ledger struct{ *store.Store }

func (l ledger) Sales(ctx context.Context, f api.SaleFilter, limit int) ([]protocol.SaleID, error) {
	tender := map[string]store.Tender{"card": store.Card, "cash": store.Cash}[f.Tender]
	return l.Store.Sales(ctx, store.SaleFilter{Device: f.Device, State: f.State, Tender: tender, Before: f.Before}, limit)
}

func (l ledger) SalePayments(ctx context.Context, id protocol.SaleID) ([]payment.Payment, error) {
	return l.Payments(ctx, store.PaymentFilter{Sale: id}, 100)
}

func saleID(n int) protocol.SaleID {
	return protocol.SaleID(protocol.NewID[struct{}](t0+protocol.UnixMS(1000*n), [10]byte{9: byte(n)}))
}

func payID(n, k int) protocol.PaymentID {
	return protocol.PaymentID(protocol.NewID[struct{}](t0+protocol.UnixMS(1000*n+k), [10]byte{9: byte(n)}))
}

func fill(t *testing.T) ledger {
	st, err := store.Open(t.Context(), store.Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	prev := protocol.Position{Epoch: protocol.Epoch{1}}
	for n := 1; n <= 7; n++ {
		device := protocol.DeviceID(fmt.Sprintf("snack-%d", 1+n%2))
		err := st.Do(t.Context(), store.Shard(device), func(tx *store.Tx) error {
			p := payment.Payment{
				ID: payID(n, 1), Sale: saleID(n), Device: device, Tenant: "acme", Class: protocol.Live, State: payment.Captured,
				Asked: eur(int64(100 + n)), Approved: eur(int64(100 + n)), Captured: eur(int64(100 + n)), Received: t0 + protocol.UnixMS(1000*n), AnswerAt: t0 + protocol.UnixMS(1000*n+200),
			}
			bodies := []protocol.Body{
				protocol.AuthorizationSent{Payment: p.ID, Amount: p.Asked, Card: protocol.Card{Brand: "visa", Last4: "0119"}},
				protocol.SaleClosed{How: protocol.Sold, Delivered: p.Captured},
			}
			if n == 4 { // at a terminal
				p.By = protocol.ByTerminal
				bodies = []protocol.Body{
					protocol.TerminalSent{Payment: p.ID, Amount: p.Asked, Terminal: "52523535"},
					protocol.TerminalAnswered{
						Payment: p.ID, Result: protocol.TerminalApproved, Approved: p.Asked, Brand: "maestro", Last4: "4771",
						Ref: protocol.TerminalRef{Receipt: "0470"}, AskedBack: true,
					},
					protocol.TerminalDone{Payment: p.ID, Op: protocol.TerminalCapture, Amount: p.Asked, End: protocol.TerminalRefused, Reason: "not_possible"},
				}
			}
			if n == 6 { // in cash
				p.By, p.Asked, p.AnswerAt = protocol.ByCash, eur(200), 0
				bodies = []protocol.Body{
					protocol.CashIn{Payment: p.ID, Value: eur(200)},
					protocol.ChangePaid{Payment: p.ID, Given: eur(90), Short: eur(4), Reason: "no_coins"},
				}
				// And coins that came when nobody bought: no sale.
				tx.PutPayment(payment.Payment{
					ID: payID(n, 2), Device: device, Tenant: "acme", Class: protocol.Live, By: protocol.ByCash, State: payment.Reversed,
					Asked: eur(50), Approved: eur(50), Received: p.Received,
				})
			}
			if n == 3 { // declined, then another card
				d := p
				d.ID, d.State, d.Captured, d.Approved = payID(n, 0), payment.Declined, money.Amount{}, money.Amount{}
				tx.PutPayment(d)
			}
			tx.PutPayment(p)
			op := payment.OpRow{
				Op: acquirer.Op{
					Key:    acquirer.OpKey{Payment: p.ID, Kind: acquirer.Capture, N: 1},
					Amount: p.Captured, STAN: 7, RRN: "123456789012",
				}, Device: device, State: payment.OpAnswered, Owed: t0 + protocol.UnixMS(1000*n+500), Tries: 1,
			}
			if n != 6 && n != 4 {
				tx.PutOp(op)
			}
			if n == 5 {
				tx.PutCase(payment.Case{ID: protocol.CaseID{5}, Cause: protocol.CaseUnknown, Tenant: "acme", Device: device, Sale: saleID(n), Payment: p.ID, Charged: true, Opened: t0 + 5600})
				tx.PutIncident(payment.Incident{Name: payment.LateApproval, Device: device, Payment: p.ID, At: t0 + 5700})
			}
			for _, b := range bodies {
				s, err := protocol.SealRecord(device, prev, protocol.Record{Sale: p.Sale, Body: b, At: protocol.Reading{Wall: t0 - 5}})
				if err != nil {
					return err
				}
				prev = s.Position
				tx.PutRecord(intake.Stored{
					Device: device, Position: s.Position, Kind: b.Kind(), Sale: p.Sale, Verdict: payment.Verdict{Disposition: payment.NoMoney},
					ReceivedAt: t0 + protocol.UnixMS(1000*n+600), Bytes: s.Bytes,
				})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	fillOwn(t, st)
	return ledger{st}
}

// fillOwn adds what a machine that owns its cash sold, in the half second after sales 2 and 5: the second was
// taken back.
func fillOwn(t *testing.T, st *store.Store) {
	t.Helper()
	for i, n := range []int{2, 5} {
		b := protocol.CashSale{Sold: protocol.SoldForCash, Price: eur(120), Outlet: 5, Product: "Cola"}
		if i > 0 {
			b.Sold = protocol.SoldNegative
		}
		s, err := protocol.SealRecord("snack-3", protocol.Position{Epoch: protocol.Epoch{3}, Seq: protocol.Seq(i)}, protocol.Record{Sale: ownID(n), Body: b})
		if err != nil {
			t.Fatal(err)
		}
		err = st.Do(t.Context(), store.Shard("snack-3"), func(tx *store.Tx) error {
			tx.PutRecord(intake.Stored{
				Device: "snack-3", Position: s.Position, Kind: b.Kind(), Sale: ownID(n), Verdict: payment.Verdict{Disposition: payment.Posted},
				ReceivedAt: t0, Bytes: s.Bytes,
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func ownID(n int) protocol.SaleID {
	return protocol.SaleID(protocol.NewID[struct{}](t0+protocol.UnixMS(1000*n+500), [10]byte{9: byte(n)}))
}

func serve(t *testing.T, healthy bool) *httptest.Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "coinop_devices_connected"}, func() float64 { return 3 }))
	srv := httptest.NewServer(api.New(api.Config{
		Ledger: fill(t), Metrics: reg, Version: "test",
		Devices: func(context.Context) ([]api.Device, error) {
			return []api.Device{{ID: "snack-1", Tenant: "acme", Online: true}}, nil
		},
		Health: func(context.Context) api.Health {
			return api.Health{OK: healthy, Store: "ok", Acquirers: map[string]bool{"bank": true}, Devices: 3}
		},
	}))
	t.Cleanup(srv.Close)
	return srv
}

func get(t *testing.T, srv *httptest.Server, path string, want int, into any) string {
	t.Helper()
	res, err := http.Get(srv.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != want {
		t.Fatalf("%s: %d %v\n%s", path, res.StatusCode, err, b)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, b)
		}
	}
	return string(b)
}

type page struct {
	Sales []api.Sale
	Next  string
}

func TestSalesPageByPage(t *testing.T) {
	srv := serve(t, true)
	var ids []string
	for path := "/api/v1/sales?limit=3"; ; {
		var p page
		get(t, srv, path, 200, &p)
		for _, s := range p.Sales {
			ids = append(ids, s.ID)
		}
		if p.Next == "" {
			break
		}
		path = "/api/v1/sales?limit=3&before=" + p.Next
	}
	var want []string
	for n := 7; n >= 1; n-- {
		if n == 2 || n == 5 {
			want = append(want, ownID(n).String())
		}
		want = append(want, saleID(n).String())
	}
	if !slices.Equal(ids, want) {
		t.Fatalf("%v\nwant %v", ids, want)
	}
	var p page
	get(t, srv, "/api/v1/sales?device=snack-2", 200, &p)
	if len(p.Sales) != 4 || p.Sales[0].Device != "snack-2" || p.Sales[0].Asked.Text != "1.07 EUR" {
		t.Fatalf("%+v", p)
	}
	get(t, srv, "/api/v1/sales?state=declined", 200, &p)
	if len(p.Sales) != 1 || len(p.Sales[0].Payments) != 2 || p.Sales[0].State != "captured" {
		t.Fatalf("%+v", p)
	}
}

func TestTimeline(t *testing.T) {
	srv := serve(t, true)
	var s api.Timeline
	get(t, srv, "/api/v1/sales/"+saleID(5).String(), 200, &s)
	var got []string
	for _, m := range s.Timeline {
		got = append(got, m.Source+": "+m.What)
	}
	want := []string{
		"cloud: request received", "cloud: answered", "acquirer: capture", "case: unknown",
		"device: AuthorizationSent", "device: SaleClosed", "incident: late_approval",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(s.Cases) != 1 || !s.Cases[0].Charged {
		t.Fatalf("%v\n%+v", got, s.Cases)
	}
	for i := 1; i < len(s.Timeline); i++ {
		if s.Timeline[i].At.Before(s.Timeline[i-1].At) {
			t.Fatalf("out of order: %+v", s.Timeline)
		}
	}
}

// TestCashSale: who authorized it is told, and what became of the change.
func TestCashSale(t *testing.T) {
	srv := serve(t, true)
	var s api.Timeline
	get(t, srv, "/api/v1/sales/"+saleID(6).String(), 200, &s)
	var got []string
	for _, m := range s.Timeline {
		got = append(got, m.Source+": "+m.What+": "+m.Detail)
	}
	slices.Sort(got)
	want := []string{"device: CashIn: 2.00 EUR, a coin", "device: ChangePaid: 0.90 EUR, short 0.04 EUR: no_coins"}
	if !slices.Equal(got, want) || s.By != "cash" || s.Asked.Minor != 200 || s.Captured.Minor != 106 {
		t.Fatalf("%q\n%+v", got, s.Sale)
	}
	get(t, srv, "/api/v1/sales/"+saleID(5).String(), 200, &s)
	if s.By != "host" {
		t.Errorf("%+v", s.Sale)
	}
}

// TestOwnCash: what machines sold for cash of their own is found by its tender, among the rest and alone.
func TestOwnCash(t *testing.T) {
	srv := serve(t, true)
	for tender, want := range map[string][]string{
		"cash&limit=2": {saleID(6).String(), ownID(5).String()},
		"cash":         {saleID(6).String(), ownID(5).String(), ownID(2).String()},
		"card&limit=3": {saleID(7).String(), saleID(5).String(), saleID(4).String()},
	} {
		var p page
		get(t, srv, "/api/v1/sales?tender="+tender, 200, &p)
		var ids []string
		for _, s := range p.Sales {
			ids = append(ids, s.ID)
		}
		if !slices.Equal(ids, want) || (p.Next == "") != (tender == "cash") {
			t.Errorf("%s: %v, next %q", tender, ids, p.Next)
		}
	}
	var s api.Timeline
	get(t, srv, "/api/v1/sales/"+ownID(2).String(), 200, &s)
	if s.By != "cash" || s.State != "captured" || s.Device != "snack-3" || s.Captured.Minor != 120 || len(s.Payments) != 0 || len(s.Timeline) != 1 || s.Timeline[0].Detail != "cash, 1.20 EUR, outlet 5 Cola" {
		t.Errorf("%+v", s)
	}
	if get(t, srv, "/api/v1/sales/"+ownID(5).String(), 200, &s); s.Asked.Minor != 120 || s.Captured.Minor != -120 {
		t.Errorf("%+v", s)
	}
}

// TestTerminalSale: who authorized it is told, by which card, and the receipt number.
func TestTerminalSale(t *testing.T) {
	srv := serve(t, true)
	var s api.Timeline
	get(t, srv, "/api/v1/sales/"+saleID(4).String(), 200, &s)
	var got []string
	for _, m := range s.Timeline {
		got = append(got, m.Source+": "+m.What+": "+m.Detail)
	}
	slices.Sort(got)
	want := []string{
		"device: TerminalAnswered: approved 1.04 EUR, maestro 4771, receipt 0470, asked back",
		"device: TerminalDone: capture 1.04 EUR, refused: not_possible",
		"device: TerminalSent: 1.04 EUR, terminal 52523535",
	}
	if !slices.Equal(got, want) || s.By != "terminal" || s.Captured.Minor != 104 {
		t.Fatalf("%q\n%+v", got, s.Sale)
	}
}

func TestRest(t *testing.T) {
	srv := serve(t, true)
	var cases struct{ Cases []api.Case }
	get(t, srv, "/api/v1/cases", 200, &cases)
	if len(cases.Cases) != 1 || cases.Cases[0].Sale != saleID(5).String() {
		t.Fatalf("%+v", cases)
	}
	if b := get(t, srv, "/api/v1/devices", 200, nil); !strings.Contains(b, `"snack-1"`) {
		t.Fatal(b)
	}
	if b := get(t, srv, "/metrics", 200, nil); !strings.Contains(b, "coinop_devices_connected 3") {
		t.Fatal(b)
	}
	var doc struct {
		Paths map[string]any
	}
	get(t, srv, "/openapi.json", 200, &doc)
	for _, p := range []string{"/healthz", "/api/v1/sales", "/api/v1/sales/{id}", "/api/v1/devices", "/api/v1/cases"} {
		if doc.Paths[p] == nil {
			t.Errorf("the document lacks %s", p)
		}
	}
	get(t, srv, "/healthz", 200, nil)
	get(t, serve(t, false), "/healthz", 503, nil)
}

// What cannot be is refused with its place.
func TestBadRequests(t *testing.T) {
	srv := serve(t, true)
	for path, want := range map[string]string{
		"/api/v1/sales?limit=0":                           "query.limit",
		"/api/v1/sales?limit=501":                         "query.limit",
		"/api/v1/sales?state=paid":                        "query.state",
		"/api/v1/sales?tender=credit":                     "query.tender",
		"/api/v1/sales?before=soon":                       "8-4-4-4-12",
		"/api/v1/sales/not-an-id":                         "8-4-4-4-12",
		"/api/v1/sales?limit=three":                       "query.limit",
		"/api/v1/sales?device=" + strings.Repeat("x", 64): "query.device",
	} {
		if b := get(t, srv, path, 422, nil); !strings.Contains(b, want) {
			t.Errorf("%s: %s", path, b)
		}
	}
	get(t, srv, "/api/v1/sales/"+saleID(99).String(), 404, nil)
}

// Accounts are listed page by page, and one has its entries; a closed-loop card's sale says who authorized it.
func TestAccounts(t *testing.T) {
	l := fill(t)
	srv := httptest.NewServer(api.New(api.Config{Ledger: l, Metrics: prometheus.NewRegistry(), Version: "test"}))
	t.Cleanup(srv.Close)
	desk := cloud.NewDesk(l.Store)
	var opened []string
	for n := range 5 {
		a, err := desk.Open(t.Context(), account.Account{Tenant: "acme", Currency: money.EUR, Card: fmt.Sprintf("000000000%d", n), Label: "A. Miller"})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 3 {
			if a, _, err = desk.Load(t.Context(), a.ID, eur(100), fmt.Sprint(k), "at till 7"); err != nil {
				t.Fatal(err)
			}
		}
		opened = append(opened, a.ID.String())
	}
	slices.Sort(opened) // of one millisecond any may be first
	var first account.ID
	if err := first.UnmarshalText([]byte(opened[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.Set(t.Context(), first, account.Blocked); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for path := "/api/v1/accounts?tenant=acme&limit=2"; ; {
		var p struct {
			Accounts []api.Account
			Next     string
		}
		get(t, srv, path, 200, &p)
		for _, a := range p.Accounts {
			ids = append(ids, a.ID)
			if a.Balance.Text != "3.00 EUR" || a.Held.Minor != 0 {
				t.Errorf("%+v", a)
			}
		}
		if p.Next == "" {
			break
		}
		path = "/api/v1/accounts?tenant=acme&limit=2&after=" + p.Next
	}
	if !slices.Equal(ids, opened) {
		t.Errorf("%v, want %v", ids, opened)
	}
	var blocked struct{ Accounts []api.Account }
	if get(t, srv, "/api/v1/accounts?state=blocked", 200, &blocked); len(blocked.Accounts) != 1 || blocked.Accounts[0].ID != opened[0] {
		t.Errorf("%+v", blocked)
	}
	var causes []string
	for path := "/api/v1/accounts/" + opened[0] + "?limit=2"; ; {
		var p api.AccountPage
		get(t, srv, path, 200, &p)
		for _, e := range p.Entries {
			causes = append(causes, strings.TrimPrefix(e.Cause, "desk/"+opened[0]+"/"))
			if e.Kind != "load" || e.Balance.Minor != 100 || e.Note != "at till 7" {
				t.Errorf("%+v", e)
			}
		}
		if p.Next == "" {
			break
		}
		path = "/api/v1/accounts/" + opened[0] + "?limit=2&before=" + p.Next
	}
	if !slices.Equal(causes, []string{"2", "1", "0"}) {
		t.Errorf("entries %q", causes)
	}
	get(t, srv, "/api/v1/accounts/"+saleID(1).String(), 404, nil)
	get(t, srv, "/api/v1/accounts/x", 422, nil)
	get(t, srv, "/api/v1/accounts/"+opened[0]+"?before=x", 422, nil)

	err := l.Do(t.Context(), store.Shard("snack-1"), func(tx *store.Tx) error {
		tx.PutPayment(payment.Payment{
			ID: payID(9, 1), Sale: saleID(9), Device: "snack-1", Tenant: "acme", Class: protocol.Live, State: payment.Captured, By: protocol.ByClosedLoop,
			Asked: eur(150), Approved: eur(150), Captured: eur(150), Received: t0, AnswerAt: t0 + 20,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var s api.Timeline
	get(t, srv, "/api/v1/sales/"+saleID(9).String(), 200, &s)
	if s.By != "closed_loop" || len(s.Timeline) != 2 || s.Timeline[1].What != "answered" {
		t.Errorf("%+v", s)
	}
}
