package cloud

import (
	"context"
	"os"
	"time"

	"coinop/cloud/store"
	"coinop/cloud/telemetry"
	"coinop/protocol"

	"github.com/prometheus/client_golang/prometheus"
)

// startTelemetry begins to export when there is a receiver; nil when there is none.
func startTelemetry(ctx context.Context, cfg Config, st *store.Store, figures prometheus.Gatherer) (*telemetry.Telemetry, error) {
	if cfg.Telemetry.Endpoint == "" {
		return nil, nil
	}
	replica, err := os.Hostname()
	if err != nil {
		replica = cfg.Listen
	}
	return telemetry.Start(ctx, telemetry.Config{
		Endpoint: cfg.Telemetry.Endpoint, Headers: cfg.Telemetry.Headers, Every: cfg.Telemetry.Every,
		Version: cfg.Version, Replica: replica, Gatherer: figures, Log: cfg.Log,
		Sale: func(ctx context.Context, id protocol.PaymentID) (protocol.SaleID, bool) {
			p, err := st.Payment(ctx, id)
			return p.Sale, err == nil
		},
	})
}

// endTelemetry lets what is known leave, but does not wait long for a receiver.
func endTelemetry(t *telemetry.Telemetry) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = t.Close(ctx) // telemetry that is lost is lost
}
