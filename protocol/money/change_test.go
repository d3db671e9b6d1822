package money

import (
	"math/rand/v2"
	"testing"
)

// TestChange: against every way there is, on tubes of all kinds.
func TestChange(t *testing.T) {
	t.Parallel()
	values := []int64{5, 10, 20, 50, 100, 200, 25}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // a test
		tubes := make([]Tube, 1+r.IntN(4))
		for i := range tubes {
			tubes[i] = Tube{Value: values[r.IntN(len(values))], Count: uint16(r.IntN(5))}
			if r.IntN(9) == 0 {
				tubes[i].Value = 0
			}
		}
		amount := int64(r.IntN(90) * 5)
		bestPaid, bestCoins := int64(0), 0
		var all func(i int, paid int64, coins int)
		all = func(i int, paid int64, coins int) {
			if paid > amount {
				return
			}
			if i == len(tubes) {
				if paid > bestPaid || paid == bestPaid && coins < bestCoins {
					bestPaid, bestCoins = paid, coins
				}
				return
			}
			for k := range int(tubes[i].Count) + 1 {
				if tubes[i].Value == 0 && k > 0 {
					break
				}
				all(i+1, paid+int64(k)*tubes[i].Value, coins+k)
			}
		}
		all(0, 0, 0)
		coins, paid := Change(tubes, amount)
		n, sum := 0, int64(0)
		for i, k := range coins {
			if k < 0 || k > int(tubes[i].Count) {
				t.Fatalf("seed %d: %d coins of %+v", seed, k, tubes[i])
			}
			n, sum = n+k, sum+int64(k)*tubes[i].Value
		}
		if paid != bestPaid || sum != paid || n != bestCoins {
			t.Fatalf("seed %d: %v of %+v for %d: %d in %d coins, the best is %d in %d", seed, coins, tubes, amount, sum, n, bestPaid, bestCoins)
		}
	}
	if coins, _ := Change([]Tube{{Value: 100, Count: 9}, {Value: 100, Count: 9}}, 300); coins[0] != 0 || coins[1] != 3 {
		t.Errorf("of two types of one value the lower pays: %v", coins)
	}
}
