// Command main makes a round with the client that ogen generated.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ogen-go/ogen/ogenerrors"

	"github.com/fanfarehq/fanfare/deploy/clients/client"
)

type key string

func (k key) Bearer(context.Context, client.OperationName) (client.Bearer, error) {
	return client.Bearer{Token: string(k)}, nil
}

func (key) ApiKey(context.Context, client.OperationName) (client.ApiKey, error) {
	return client.ApiKey{}, ogenerrors.ErrSkipClientSecurity
}

// is returns an answer of the wanted type, or panics with what came instead.
func is[T any](answer any, err error) T {
	wanted, ok := answer.(T)
	if err != nil || !ok {
		panic(fmt.Sprintf("got %+v, %v", answer, err))
	}
	return wanted
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tenant := client.NewOptString("ogen")
	c, err := client.NewClient(os.Args[1], key(os.Args[2]))
	if err != nil {
		panic(err)
	}
	made := is[*client.CreateSubscriptionCreatedHeaders](c.CreateSubscription(ctx, &client.NewSubscription{
		URL: os.Args[3], EventTypes: []string{"order.*"}, PayloadFormat: client.NewOptNewSubscriptionPayloadFormat("standard"),
	}, client.CreateSubscriptionParams{Tenant: tenant})).Response
	event := client.NewNewEventPublishRequest(client.NewEvent{Type: "order.created", Data: []byte(`{"total":12.5}`)})
	published := is[*client.PublishResult](c.PublishEvents(ctx, &event, client.PublishEventsParams{Tenant: tenant})).PublishedEvent
	var deliveries *client.DeliveryList
	for deliveries == nil || len(deliveries.Data) == 0 || deliveries.Data[0].State != "delivered" {
		deliveries = is[*client.DeliveryList](c.ListSubscriptionDeliveries(ctx, client.ListSubscriptionDeliveriesParams{ID: made.ID, Tenant: tenant}))
	}
	read := is[*client.EventDetail](c.GetEvent(ctx, client.GetEventParams{ID: published.ID, Tenant: tenant}))
	if string(read.Data) != `{"total":12.5}` || read.Matched != 1 {
		panic(fmt.Sprintf("event %+v", read))
	}
	id := deliveries.Data[0].ID
	delivery := is[*client.DeliveryDetail](c.GetDelivery(ctx, client.GetDeliveryParams{ID: id, Tenant: tenant}))
	if delivery.EventID != published.ID || delivery.SubscriptionID != made.ID {
		panic(fmt.Sprintf("delivery %+v", delivery))
	}
	again := is[*client.DeliveryDetail](c.RetryDelivery(ctx, client.RetryDeliveryParams{ID: id, Tenant: tenant}))
	if again.Generation != 1 || again.ID == id {
		panic(fmt.Sprintf("retried %+v", again))
	}
}
