package subscriptions

import (
	"context"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

func (r routes) getSecret(ctx context.Context, in *idInput) (*struct{ Body secretJSON }, error) {
	sub, err := r.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if sub.Err != nil {
		return nil, sub.Err
	}
	return &struct{ Body secretJSON }{presentSecret(sub)}, nil
}

type rotateInput struct {
	ID   string `path:"id" doc:"The subscription's id." example:"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"`
	Body rotation
}

// rotation is the body of rotate-secret.
type rotation struct {
	Overlap *span  `json:"overlap,omitempty" doc:"How long the old secret signs as well: 0s to 7d; 24h if omitted." example:"24h"`
	Secret  string `json:"secret,omitempty" doc:"The new secret; generated if omitted." example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
}

func (r routes) rotateSecret(ctx context.Context, in *rotateInput) (*subscriptionOutput, error) {
	overlap := defaultOverlap
	if in.Body.Overlap != nil {
		overlap = time.Duration(*in.Body.Overlap)
	}
	if overlap < 0 || overlap > maxOverlap {
		return nil, api.Invalid(api.At("body.overlap", "must be between 0s and "+formatDuration(maxOverlap)))
	}
	var rotated *Subscription
	out, err := r.act(ctx, in.ID, func(sub *Subscription) (*Subscription, error) {
		switch sub.Dialect {
		case Leat, Kajabi, Passona:
			return nil, &Invalid{[]Fault{{"secret", "is fixed by the dialect " + sub.Dialect}}}
		}
		rotated = sub
		return sub, r.store.Rotate(ctx, sub, Secret{Value: in.Body.Secret}, overlap)
	})
	if err != nil {
		return nil, err
	}
	secret := presentSecret(rotated)
	out.Body.Secret, out.Body.PublicKey = deref(secret.Secret), deref(secret.PublicKey)
	return out, nil
}
