"""Orders, kept in memory: a service of gRPC as a beginner writes it. It knows nothing of the gateway."""

import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent))
orders_pb2, orders_pb2_grpc = grpc.protos_and_services("service.proto")


class Orders(orders_pb2_grpc.OrderServiceServicer):
    def __init__(self):
        self.orders = {}
        self.lock = threading.Lock()

    def CreateOrder(self, request, context):
        if request.quantity < 1:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the quantity must be at least 1")
        with self.lock:
            order_id = str(len(self.orders) + 1)
            self.orders[order_id] = request
        return orders_pb2.CreateOrderResponse(order_id=order_id)

    def GetOrder(self, request, context):
        order = self.orders.get(request.order_id)
        if order is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such order")
        return orders_pb2.GetOrderResponse(
            customer_name=order.customer_name, product_name=order.product_name, quantity=order.quantity
        )


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    orders_pb2_grpc.add_OrderServiceServicer_to_server(Orders(), server)
    port = server.add_insecure_port(address)
    server.start()
    print(f"serving on port {port}", flush=True)
    server.wait_for_termination()


main()
