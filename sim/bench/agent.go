package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"coinop/agent/journal"
	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/sim/load"
)

// Wanted of an agent, whose box may have 512 MB and a slow card.
const (
	targetRSS    = 48.0   // MB
	targetStart  = 1000.0 // ms
	targetBinary = 25.0   // MB
	perSnapshot  = 512    // records between two snapshots, as an agent writes them
)

// agent starts the program on a long journal.
func (r *Report) agent(ctx context.Context, o Options, dir string) error {
	program := filepath.Join(o.Bin, "coinop-agent")
	info, err := os.Stat(program)
	if err != nil {
		return fmt.Errorf("%w; make build makes the programs", err)
	}
	keys, err := identity.OpenKeys(filepath.Join(dir, "keys"), time.Now())
	if err != nil {
		return err
	}
	cloud, err := keys.Cloud()
	if err != nil {
		return err
	}
	b, err := keys.Authority.Device("bench", time.Now(), cloud)
	if err != nil {
		return err
	}
	if err := b.Write(filepath.Join(dir, "identity")); err != nil {
		return err
	}
	if err := longJournal(filepath.Join(dir, "data", "journal"), b.Serial, o.Records); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	ready := filepath.Join(dir, "ready")
	a := exec.CommandContext(ctx, program, "run", "--identity", filepath.Join(dir, "identity"), "--data", filepath.Join(dir, "data"),
		"--cloud", "127.0.0.1:1", "--vmc", filepath.Join(dir, "vmc"), "--reader", filepath.Join(dir, "reader"), "--ready-file", ready)
	log, err := os.Create(filepath.Join(dir, "agent.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	a.Stderr = log
	a.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	began := time.Now()
	if err := a.Start(); err != nil {
		return err
	}
	took, err := appears(ctx, ready, began)
	var rss int64
	if err == nil {
		o.settle()
		rss, err = load.RSS(a.Process.Pid)
	}
	_ = a.Process.Signal(syscall.SIGTERM)
	if ended := a.Wait(); err == nil {
		err = ended
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("agent: %w\n%s", err, said)
	}
	name := fmt.Sprintf("agent with %d records: ", o.Records)
	r.less(name+"start to ready", ms(took), "ms", targetStart, "what is wanted")
	r.less(name+"memory", float64(rss)/(1<<20), "MB", targetRSS, "what is wanted")
	r.less("agent's binary", float64(info.Size())/(1<<20), "MB", targetBinary, "what is wanted")
	if c, err := os.Stat(filepath.Join(o.Bin, "coinop-cloud")); err == nil {
		r.less("cloud's binary", float64(c.Size())/(1<<20), "MB", 2*targetBinary, "twice an agent's")
	}
	return nil
}

func appears(ctx context.Context, path string, began time.Time) (time.Duration, error) {
	for ctx.Err() == nil && time.Since(began) < 30*time.Second {
		if _, err := os.Stat(path); err == nil {
			return time.Since(began), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, errors.Join(errors.New("it is not ready in 30 s"), context.Cause(ctx))
}

// longJournal writes records as an agent does that has sold for long.
func longJournal(dir, serial string, n int) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	j, err := journal.OpenBadger(dir, journal.Options{Device: "bench", CertSerial: serial, NewEpoch: func() protocol.Epoch { return protocol.Epoch{1} }})
	if err != nil {
		return err
	}
	at := protocol.Reading{Wall: protocol.At(time.Now()), Boot: protocol.BootID{1}}
	for n > 0 {
		var batch []protocol.Record
		for range min(n, perSnapshot) - 1 {
			batch = append(batch, protocol.Record{Sale: protocol.SaleID{1}, At: at, Body: protocol.DeviceEvent{Code: "bench", Detail: string(make([]byte, 200))}})
		}
		batch = append(batch, protocol.Record{At: at, Body: protocol.Snapshot{PolicyVersion: 1}})
		if _, err := j.Append(batch, nil); err != nil {
			return errors.Join(err, j.Close())
		}
		n -= len(batch)
	}
	return j.Close()
}
