import { Body, Controller, Param, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { orderId } from '../orders/order-input.js';
import { Order } from '../orders/order.entity.js';
import { Payment } from '../orders/payment.entity.js';

const slowPayment = z.strictObject({ holdMs: z.number().min(0).max(10_000) });

/** Paying an order in a transaction that is open for a given time, like one that does more work than ours. */
@Controller('demo/orders')
export class SlowPaymentsController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post(':id/pay')
  async pay(
    @Param('id', { schema: orderId }) id: number,
    @Body({ schema: slowPayment }) { holdMs }: z.infer<typeof slowPayment>,
  ): Promise<{ orderId: number }> {
    return this.dataSource.transaction(async (manager) => {
      const order = await manager.findOneByOrFail(Order, { id });
      await manager.insert(Payment, { orderId: id, amountCents: order.totalCents });
      await manager.query('SELECT pg_sleep($1)', [holdMs / 1000]);
      await manager.update(Order, { id }, { status: 'paid' });
      return { orderId: id };
    });
  }
}
