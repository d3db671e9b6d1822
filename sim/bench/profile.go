package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Stages of an authorization in the cloud, by whose code is found first from the innermost frame of a
// sample outwards: TLS writes for the broker, AES for the seal that called it.
const (
	stageBroker  = "broker (MQTT, TLS)"
	stageSeal    = "seal and vault"
	stageStore   = "store"
	stageISO     = "ISO 8583"
	stageDecides = "relay, payment, CBOR"
	stageRest    = "runtime: collector, scheduler"
)

var stages = []string{stageBroker, stageSeal, stageStore, stageISO, stageDecides, stageRest}

var stageOf = []struct{ prefix, stage string }{
	{"coinop/cloud/broker", stageBroker},
	{"github.com/mochi-mqtt/", stageBroker},
	{"crypto/tls", stageBroker},
	{"coinop/protocol/seal", stageSeal},
	{"coinop/cloud/vault", stageSeal},
	{"crypto/hpke", stageSeal},
	{"coinop/cloud/store", stageStore},
	{"modernc.org/", stageStore},
	{"database/sql", stageStore},
	{"coinop/cloud/acquirer", stageISO},
	{"coinop/", stageDecides},
	{"github.com/fxamacker/cbor", stageDecides},
}

// top is one line of the list of functions that cost most.
type top struct {
	Function string  `json:"function"`
	Flat     float64 `json:"flat"` // share of all samples
}

// byStage is each stage's share of a CPU profile, and the functions that cost most.
func byStage(path string) (map[string]float64, []top, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		return nil, nil, fmt.Errorf("profile %s: %w", path, err)
	}
	var all float64
	shares, flat := map[string]float64{}, map[string]float64{}
	for _, s := range p.Sample {
		n := float64(s.Value[len(s.Value)-1])
		all += n
		shares[sampleStage(s)] += n
		if len(s.Location) > 0 && len(s.Location[0].Line) > 0 {
			flat[s.Location[0].Line[0].Function.Name] += n
		}
	}
	if all == 0 {
		return nil, nil, fmt.Errorf("profile %s: no samples", path)
	}
	var tops []top
	for name, n := range flat {
		tops = append(tops, top{name, n / all})
	}
	slices.SortFunc(tops, func(a, b top) int {
		if a.Flat != b.Flat {
			return int(1e9 * (b.Flat - a.Flat))
		}
		return strings.Compare(a.Function, b.Function)
	})
	for stage := range shares {
		shares[stage] /= all
	}
	return shares, tops[:min(len(tops), 15)], nil
}

func sampleStage(s *profile.Sample) string {
	for _, l := range s.Location {
		for _, line := range l.Line {
			for _, of := range stageOf {
				if strings.HasPrefix(line.Function.Name, of.prefix) {
					return of.stage
				}
			}
		}
	}
	return stageRest
}
