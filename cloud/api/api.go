// Package api is the cloud's HTTP interface for people's tools: health, metrics, sales with their
// whole timeline, devices, cases, accounts of closed-loop cards. It reads; it changes nothing.
//
//	h, err := api.New(api.Config{Ledger: st, Devices: devices, Health: health, Metrics: registry})
//	http.Serve(listener, h)
//
// The document that describes it is at /openapi.json. There are no users and no keys yet, so whoever
// can reach it can read it: cloud lets it listen on loopback addresses only.
package api

import (
	"context"
	"net/http"

	"coinop/cloud/account"
	"coinop/cloud/intake"
	"coinop/cloud/payment"
	"coinop/protocol"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Ledger is what the interface reads: the store.
type Ledger interface {
	Sales(context.Context, SaleFilter, int) ([]protocol.SaleID, error)
	// CashSale is the record of a sale without a payment, and its tenant; its Device is "" for none.
	CashSale(context.Context, protocol.SaleID) (intake.Stored, string, error)
	SalePayments(context.Context, protocol.SaleID) ([]payment.Payment, error)
	PaymentOps(context.Context, protocol.PaymentID) ([]payment.OpRow, error)
	PaymentIncidents(context.Context, protocol.PaymentID) ([]payment.Incident, error)
	SaleRecords(context.Context, protocol.DeviceID, protocol.SaleID) ([]intake.Stored, error)
	SaleCases(context.Context, protocol.SaleID) ([]payment.Case, error)
	Cases(context.Context) ([]payment.Case, error)
	Accounts(context.Context, account.Filter, int) ([]account.Account, error)
	FindAccount(context.Context, account.ID) (account.Account, bool, error)
	AccountEntries(ctx context.Context, id account.ID, before uint64, limit int) ([]account.Entry, error)
}

// SaleFilter chooses sales; zero fields choose all.
type SaleFilter struct {
	Device protocol.DeviceID
	State  payment.State
	Tender string // "card" or "cash"
	Before protocol.SaleID
}

// Device is what is known of a registered device now.
type Device struct {
	ID         protocol.DeviceID `json:"id" doc:"name in its certificate"`
	Tenant     string            `json:"tenant"`
	Terminal   string            `json:"terminal" doc:"TID, DE41"`
	Link       string            `json:"link" doc:"name of the link to its acquirer"`
	Online     bool              `json:"online"`
	Reason     string            `json:"reason,omitempty" doc:"why it went offline"`
	Connection uint64            `json:"connection,omitempty"`
	Software   string            `json:"software,omitempty"`
	Records    uint64            `json:"records" doc:"records of its journal that are held"`
	Stopped    string            `json:"stopped,omitempty" doc:"code of a chain fault: it must not sell"`
}

// Health is how the service is.
type Health struct {
	OK        bool            `json:"ok"`
	Store     string          `json:"store" doc:"ok, or what is wrong"`
	Broker    string          `json:"broker" doc:"ok, or what is wrong"`
	Acquirers map[string]bool `json:"acquirers" doc:"links to acquirers, by name: up"`
	Devices   int64           `json:"devices" doc:"connected now"`
}

// Config of the interface; all of it is needed.
type Config struct {
	Ledger  Ledger
	Devices func(context.Context) ([]Device, error)
	Health  func(context.Context) Health
	Metrics *prometheus.Registry
	Version string
}

// New is the handler.
func New(cfg Config) http.Handler {
	mux := http.NewServeMux()
	hc := huma.DefaultConfig("Coinop", cfg.Version)
	hc.Info.Description = "Sales of unattended points of sale, with everything that is known of their money. Read only."
	hc.DocsPath = "" // its page would load scripts from elsewhere
	hc.SchemasPath = "/schemas"
	h := huma.NewAPI(hc, humago.NewAdapter(mux, ""))
	s := &server{cfg: cfg}
	get := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}
	}
	huma.Register(h, get("health", "/healthz", "Whether the service can do its work"), s.health)
	huma.Register(h, get("sales", "/api/v1/sales", "Sales, the newest first"), s.sales)
	huma.Register(h, get("sale", "/api/v1/sales/{id}", "One sale with its whole timeline"), s.sale)
	huma.Register(h, get("devices", "/api/v1/devices", "Registered devices"), s.devices)
	huma.Register(h, get("cases", "/api/v1/cases", "Open questions about sales' money"), s.cases)
	huma.Register(h, get("accounts", "/api/v1/accounts", "Accounts of closed-loop cards, by when they were opened"), s.accounts)
	huma.Register(h, get("account", "/api/v1/accounts/{id}", "One account with its entries"), s.account)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	return mux
}

type server struct{ cfg Config }

type body[T any] struct {
	Status int
	Body   T
}

func ok[T any](v T) *body[T] { return &body[T]{Status: http.StatusOK, Body: v} }

func (s *server) health(ctx context.Context, _ *struct{}) (*body[Health], error) {
	h := s.cfg.Health(ctx)
	out := ok(h)
	if !h.OK {
		out.Status = http.StatusServiceUnavailable
	}
	return out, nil
}

type devicesBody struct {
	Devices []Device `json:"devices"`
}

func (s *server) devices(ctx context.Context, _ *struct{}) (*body[devicesBody], error) {
	all, err := s.cfg.Devices(ctx)
	if err != nil {
		return nil, err
	}
	return ok(devicesBody{append([]Device{}, all...)}), nil
}
