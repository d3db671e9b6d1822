// Command otelcol is the OTLP receiver of OpenTelemetry's Collector with nothing behind it: what it gets
// it prints, one JSON object a line, as {"signal": "traces", "data": {...}} in OTLP's JSON. It judges in
// tests what our programs export; it is a module of its own, so that theirs do not depend on it.
//
//	otelcol DIR      prints the address it listens at, then what comes, until its standard input ends
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: otelcol DIR")
		os.Exit(64)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "otelcol:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	ctx := context.Background()
	// The receiver does not tell the port it got, so it listens at a socket, and we before it.
	socket := filepath.Join(dir, "otlp.sock")
	f := otlpreceiver.NewFactory()
	cfg := f.CreateDefaultConfig()
	err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"http": map[string]any{"endpoint": socket, "transport": "unix"},
	}}).Unmarshal(cfg)
	if err != nil {
		return err
	}
	traces, err := consumer.NewTraces(func(_ context.Context, d ptrace.Traces) error {
		b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(d)
		return say("traces", b, err)
	})
	if err != nil {
		return err
	}
	metrics, err := consumer.NewMetrics(func(_ context.Context, d pmetric.Metrics) error {
		b, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(d)
		return say("metrics", b, err)
	})
	if err != nil {
		return err
	}
	logs, err := consumer.NewLogs(func(_ context.Context, d plog.Logs) error {
		b, err := (&plog.JSONMarshaler{}).MarshalLogs(d)
		return say("logs", b, err)
	})
	if err != nil {
		return err
	}
	set := receivertest.NewNopSettings(f.Type())
	t, err := f.CreateTraces(ctx, set, cfg, traces)
	if err != nil {
		return err
	}
	m, err := f.CreateMetrics(ctx, set, cfg, metrics)
	if err != nil {
		return err
	}
	l, err := f.CreateLogs(ctx, set, cfg, logs)
	if err != nil {
		return err
	}
	host := componenttest.NewNopHost()
	for _, start := range []func() error{
		func() error { return t.Start(ctx, host) }, func() error { return m.Start(ctx, host) }, func() error { return l.Start(ctx, host) },
	} {
		if err := start(); err != nil {
			return err
		}
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(front.Addr())
	go func() {
		for {
			c, err := front.Accept()
			if err != nil {
				return
			}
			go splice(c, socket)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func splice(c net.Conn, socket string) {
	defer c.Close()
	s, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer s.Close()
	go func() { _, _ = io.Copy(s, c); _ = s.Close() }()
	_, _ = io.Copy(c, s)
}

var out sync.Mutex

func say(signal string, data []byte, err error) error {
	if err != nil {
		return err
	}
	out.Lock()
	defer out.Unlock()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"signal": signal, "data": json.RawMessage(data)})
}
