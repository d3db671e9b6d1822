// Package intake is the other end of a device's journal: it takes batches of records in, exactly
// once and in order, whatever order and however often they come.
//
//	in := intake.New(intake.Config{Do: ..., Payments: service, Anchors: anchors})
//	res, err := in.Accept(ctx, now, from, batch)
//	// tell the device res.Watermark, and res.Checkpoint when there is one; run res.Effects
//
// It promises:
//   - a batch is one unit of work: the records, what they mean for money, and the head move
//     together or not at all;
//   - a record at or below the head is compared by its hash and skipped: a repeat changes nothing;
//   - what cannot be applied is kept, acknowledged and quarantined with a reason;
//   - a chain fault stops the device, for good and by name: another box has the same journal, or
//     this one an older copy of it.
package intake

import (
	"context"
	"fmt"

	"coinop/cloud/payment"
	"coinop/protocol"
)

// Payments is what intake needs of the payment service.
type Payments interface {
	Begin(now protocol.UnixMS, tx payment.Tx) *payment.Unit
}

// Config of an Intake. Do, Payments and Anchors are needed.
type Config struct {
	// Do runs a unit of work of one device: the store. It returns after the commit.
	Do        func(context.Context, protocol.DeviceID, func(Tx) error) error
	Payments  Payments
	Anchors   payment.Anchors
	Acquirers func(link string) []protocol.AcquirerState // what a device of that link is told; nil: nothing
	// ReleaseEvery is after how many records a checkpoint is told; 0 = 256. An empty batch, which
	// every connection begins with, is told one too.
	ReleaseEvery int
}

// Intake takes batches in. It is safe for concurrent use.
type Intake struct{ cfg Config }

// New makes an Intake.
func New(cfg Config) *Intake {
	if cfg.ReleaseEvery == 0 {
		cfg.ReleaseEvery = 256
	}
	return &Intake{cfg: cfg}
}

// Result is what is to be done after the commit.
type Result struct {
	Watermark  protocol.Watermark
	Checkpoint *protocol.Checkpoint // to be signed
	Effects    []payment.Effect
}

// Codes a device is stopped with.
const (
	StopFork  = "journal.fork"
	StopEpoch = "journal.epoch"
)

// dispositionsMost bounds what one watermark carries of payment dispositions.
const dispositionsMost = 64

// batch is a checked protocol.Batch.
type batch struct {
	protocol.Batch
	opened []protocol.Opened
	sound  bool // every record opens, and they are one chain from Prev to Head
}

func check(b protocol.Batch) batch {
	out := batch{Batch: b}
	if b.First != b.Last+1-protocol.Seq(len(b.Record)) || b.First == 0 {
		return out
	}
	prev, seq := b.Prev, b.First
	for _, bytes := range b.Record {
		o, err := protocol.OpenRecord(bytes)
		if err != nil || o.Device != b.Device || o.Position.Epoch != b.Epoch || o.Position.Seq != seq || o.Prev != prev {
			return out
		}
		out.opened = append(out.opened, o)
		prev, seq = o.Position.Hash, seq+1
	}
	out.sound = prev == b.Head
	return out
}

// Accept takes a batch whose signature was verified. Verdicts are answers; an error means that
// nothing is known to have been stored, and the device will send the batch again.
func (in *Intake) Accept(ctx context.Context, now protocol.UnixMS, from payment.From, b protocol.Batch) (Result, error) {
	if b.V != protocol.Version || b.Device != from.Device {
		return Result{}, fmt.Errorf("batch v%d of %q from %s", b.V, b.Device, from.Device)
	}
	checked := check(b)
	var res Result
	err := in.cfg.Do(ctx, from.Device, func(tx Tx) error {
		u := &unit{in: in, tx: tx, now: now, from: from, b: checked, money: in.cfg.Payments.Begin(now, tx)}
		var err error
		res, err = u.run()
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("take in a batch of %s: %w", from.Device, err)
	}
	return res, nil
}

// unit is one batch under way.
type unit struct {
	in    *Intake
	tx    Tx
	now   protocol.UnixMS
	from  payment.From
	b     batch
	head  Head
	was   Head
	money *payment.Unit
	found []Stored
	odd   []payment.Incident
}

func (u *unit) run() (Result, error) {
	var err error
	if u.head, err = u.tx.Head(u.from.Device); err != nil {
		return Result{}, err
	}
	u.head.Device = u.from.Device
	u.was = u.head
	verdict, want, err := u.judge()
	if err != nil {
		return Result{}, err
	}
	w, err := u.watermark(verdict, want)
	if err != nil {
		return Result{}, err
	}
	res := Result{Watermark: w, Checkpoint: u.release(verdict)}
	if u.head != u.was {
		u.tx.PutHead(u.head)
	}
	for _, s := range u.found {
		u.tx.PutRecord(s)
	}
	for _, i := range u.odd {
		u.tx.PutIncident(i)
	}
	res.Effects, err = u.money.End()
	return res, err
}

// judge says what a batch is, and takes in what is new of it.
func (u *unit) judge() (verdict protocol.Verdict, want protocol.Seq, err error) {
	b, h := u.b, u.head.Position
	replaced := u.head.Serial != u.from.Serial && h.Epoch != b.Epoch // a new certificate and a new journal
	switch {
	case u.head.Stopped == StopEpoch && !replaced:
		return protocol.BadEpoch, 0, nil
	case u.head.Stopped != "" && !replaced:
		return protocol.Fork, 0, nil
	case !b.sound:
		return u.fault(StopFork), 0, nil
	case h.Epoch != b.Epoch:
		return u.epoch()
	case b.First > h.Seq+1:
		return protocol.Gap, h.Seq + 1, nil
	}
	same, err := u.same()
	if err != nil {
		return 0, 0, err
	}
	if !same {
		return u.fault(StopFork), 0, nil
	}
	return u.take(int(h.Seq + 1 - b.First))
}

func (u *unit) fault(code string) protocol.Verdict {
	u.head.Stopped = code
	u.report(payment.ChainFault, code)
	if code == StopEpoch {
		return protocol.BadEpoch
	}
	return protocol.Fork
}

func (u *unit) report(n payment.IncidentName, detail string) {
	u.odd = append(u.odd, payment.Incident{Name: n, Device: u.from.Device, At: u.now, Detail: detail})
}

// epoch: the batch is of another epoch than the one held. It may begin only with its first record,
// which names the one held, or when the device got a new certificate since.
func (u *unit) epoch() (protocol.Verdict, protocol.Seq, error) {
	if u.b.First != 1 {
		return protocol.Gap, 1, nil
	}
	if len(u.b.opened) == 0 {
		return protocol.Acked, 0, nil // nothing to hold yet
	}
	if old, err := u.replayed(); err != nil || old {
		return protocol.BadEpoch, 0, err
	}
	started, ok := u.b.opened[0].Body.(protocol.EpochStarted)
	known := u.head.Version > 0
	switch {
	case !ok:
		return u.fault(StopEpoch), 0, nil
	case known && started.PrevEpoch != u.head.Position.Epoch && u.head.Serial == u.from.Serial:
		return u.fault(StopEpoch), 0, nil
	}
	if known && started.PrevEpoch == u.head.Position.Epoch && (started.PrevSeq != u.head.Position.Seq || started.Reason == "corrupt") {
		had := fmt.Sprint(started.PrevSeq)
		if started.PrevSeq == 0 {
			had = "as many and perhaps more"
		}
		u.report(payment.EpochCut, fmt.Sprintf("held %d records of the epoch before, it had %s (%s)", u.head.Position.Seq, had, started.Reason))
	}
	u.head.Position = protocol.Position{Epoch: u.b.Epoch}
	u.head.Released, u.head.Serial, u.head.Stopped = 0, u.from.Serial, ""
	return u.take(0)
}

// replayed reports a batch of an earlier epoch of this device that was taken in as it is when it
// came: a message that comes again changes nothing. A box that runs on in that epoch has a record
// more, of its start at least, and is told from it by that.
func (u *unit) replayed() (bool, error) {
	b := u.b
	hashes, err := u.tx.Hashes(b.Device, b.Epoch, b.First, b.Last)
	if err != nil || len(hashes) != len(b.opened) {
		return false, err
	}
	for i, hash := range hashes {
		if hash != b.opened[i].Position.Hash {
			return false, nil
		}
	}
	return true, nil
}

// same reports whether what the batch says of records already held is what is held.
func (u *unit) same() (bool, error) {
	b, h := u.b, u.head.Position
	if b.First == h.Seq+1 {
		return b.Prev == h.Hash, nil
	}
	if len(b.opened) == 0 { // an empty batch below the head: the hash of its last record
		if b.Last == 0 {
			return true, nil
		}
		hashes, err := u.tx.Hashes(b.Device, b.Epoch, b.Last, b.Last)
		return len(hashes) == 1 && hashes[0] == b.Head, err
	}
	hashes, err := u.tx.Hashes(b.Device, b.Epoch, b.First, min(b.Last, h.Seq))
	if err != nil {
		return false, err
	}
	if len(hashes) != int(min(b.Last, h.Seq)+1-b.First) {
		return false, fmt.Errorf("records %d to %d of %s are not all held", b.First, h.Seq, b.Device)
	}
	for i, hash := range hashes {
		if hash != b.opened[i].Position.Hash {
			return false, nil
		}
	}
	return true, nil
}

// take applies the records after the first known ones.
func (u *unit) take(known int) (protocol.Verdict, protocol.Seq, error) {
	if len(u.b.opened) > 0 && known >= len(u.b.opened) {
		return protocol.Repeat, 0, nil
	}
	for i := known; i < len(u.b.opened); i++ {
		o := u.b.opened[i]
		v, err := u.money.Record(u.from.Tenant, o)
		if err != nil {
			return 0, 0, fmt.Errorf("record %d: %w", o.Position.Seq, err)
		}
		u.found = append(u.found, Stored{
			Device: o.Device, Position: o.Position, Kind: o.Body.Kind(), Lane: o.Lane, Sale: o.Sale,
			Verdict: v, ReceivedAt: u.now, Bytes: u.b.Record[i],
		})
		u.head.Position = o.Position
	}
	return protocol.Acked, 0, nil
}

func (u *unit) watermark(v protocol.Verdict, want protocol.Seq) (protocol.Watermark, error) {
	w := protocol.Watermark{
		V: protocol.Version, Device: u.from.Device, Epoch: u.b.Epoch, Verdict: v, Want: want,
		Anchor: protocol.Anchor{ID: u.in.cfg.Anchors.Make(u.from.Device, u.now), Cloud: u.now, Nonce: u.b.Nonce},
	}
	if u.head.Position.Epoch == u.b.Epoch {
		w.N, w.Hash = u.head.Position.Seq, u.head.Position.Hash
	}
	if u.in.cfg.Acquirers != nil {
		w.Acquirers = u.in.cfg.Acquirers(u.from.Link)
	}
	var err error
	if w.Dispositions, w.Cursor, err = u.tx.Dispositions(u.from.Device, u.b.Cursor, dispositionsMost); err != nil {
		return w, err
	}
	if len(u.b.opened) > 0 && len(u.found) < len(u.b.opened) { // some were held before
		if w.Quarantined, err = u.tx.Quarantined(u.from.Device, u.b.Epoch, u.b.First, u.b.Last); err != nil {
			return w, err
		}
	}
	for _, s := range u.found {
		if s.Verdict.Disposition == payment.Quarantined {
			w.Quarantined = append(w.Quarantined, protocol.Quarantined{Seq: s.Position.Seq, Code: s.Verdict.Quarantine})
		}
	}
	return w, nil
}

// release says how far the device may forget: all that is held is synced.
func (u *unit) release(v protocol.Verdict) *protocol.Checkpoint {
	p := u.head.Position
	if v != protocol.Acked || p.Seq == 0 || p.Epoch != u.b.Epoch {
		return nil
	}
	if len(u.b.opened) > 0 && p.Seq-u.head.Released < protocol.Seq(u.in.cfg.ReleaseEvery) {
		return nil
	}
	u.head.Released = p.Seq
	return &protocol.Checkpoint{V: protocol.Version, Device: u.from.Device, Epoch: p.Epoch, N: p.Seq, Hash: p.Hash, Cloud: u.now}
}
