package agent

import (
	"time"

	"coinop/hardware"
	"coinop/hardware/escpos"
	"coinop/hardware/paper"
)

// Copies are the papers of a sale that are printed.
type Copies uint8

// Papers of a sale. All receipts are kept as files, whichever are printed.
const (
	BuyersCopy Copies = iota
	SellersCopy
	BothCopies
	NoCopies
)

// of are a receipt's papers, in the order they come out: the buyer's is the last, at the top.
func (c Copies) of(r paper.Receipt) (all []paper.Receipt) {
	if c == SellersCopy || c == BothCopies {
		sellers := r
		sellers.Merchant = true
		all = append(all, sellers)
	}
	if c == BuyersCopy || c == BothCopies {
		all = append(all, r)
	}
	return all
}

const (
	// againFor is how long after a sale its paper is still worth printing: the buyer has gone by then.
	againFor = 10 * time.Minute
	// againMost bounds the papers that wait for a printer; the oldest is dropped, its file is kept.
	againMost = 8
)

// printing is a paper that was given to the printer, or waits for it to be right again.
type printing struct {
	receipt paper.Receipt
	since   time.Duration // Mono: of the sale's end
}

// print gives a paper to a lane's printer.
func (s *shell) print(l *lane, p printing) (page paper.Page, err error) {
	s.job++
	page = p.receipt.Layout(l.form)
	if err := l.printer.Print(s.job, page); err != nil {
		return page, err
	}
	if l.jobs == nil {
		l.jobs = map[uint32]printing{}
	}
	l.jobs[s.job] = p
	return page, nil
}

// printed is the end of a print job. What was not begun waits for the printer; what may be on paper is
// printed once more as a copy, and not a second time, whatever becomes of that.
func (s *shell) printed(l *lane, p hardware.Printed) {
	job, known := l.jobs[p.Job]
	delete(l.jobs, p.Job)
	log := s.log.With("lane", int(l.id), "job", p.Job, "reference", job.receipt.Reference())
	if p.Reason == "" {
		log.Debug("printed")
		return
	}
	again := known && (p.Result == hardware.PrintNone || p.Result == hardware.PrintUnknown && !job.receipt.Copy)
	log.Warn("receipt not printed, or not known to be", "reason", p.Reason, "result", p.Result.String(), "again", again,
		"check", "paper, cover and cable of the printer; coinop-agent receipt shows it, and --png makes a picture of it")
	if !again {
		return
	}
	job.receipt.Copy = job.receipt.Copy || p.Result == hardware.PrintUnknown
	s.printLater(l, job)
	if p.Reason == escpos.ReasonUnconfirmed { // any other is told as health, and so is its end
		s.printAgain(l)
	}
}

func (s *shell) printLater(l *lane, p printing) {
	if l.again = append(l.again, p); len(l.again) > againMost {
		l.again = l.again[1:]
	}
}

// printAgain prints what waits, now that the printer may be right.
func (s *shell) printAgain(l *lane) {
	waiting := l.again
	l.again = nil
	for _, p := range waiting {
		log := s.log.With("lane", int(l.id), "reference", p.receipt.Reference())
		if s.mono()-p.since > againFor {
			log.Warn("receipt not printed: its buyer has gone", "check", "coinop-agent receipt shows it")
			continue
		}
		if _, err := s.print(l, p); err != nil {
			s.printLater(l, p)
			continue
		}
		log.Info("receipt again", "copy", p.receipt.Copy, "job", s.job)
	}
}
