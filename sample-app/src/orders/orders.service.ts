import { ConflictException, Injectable, NotFoundException } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, LessThan, Repository } from 'typeorm';
import type { NewOrder, OrderPage } from './order-input.js';
import { Order } from './order.entity.js';
import { Payment } from './payment.entity.js';

/** Nothing here knows of rotation: what is injected stays the same for the life of the application. */
@Injectable()
export class OrdersService {
  constructor(
    @InjectRepository(Order) private readonly orders: Repository<Order>,
    @InjectDataSource() private readonly dataSource: DataSource,
  ) {}

  create(order: NewOrder): Promise<Order> {
    return this.orders.save(this.orders.create(order));
  }

  /** Newest first. */
  list({ limit, before }: OrderPage): Promise<Order[]> {
    return this.orders.find({
      where: before === undefined ? {} : { id: LessThan(before) },
      order: { id: 'DESC' },
      take: limit,
    });
  }

  async get(id: number): Promise<Order> {
    const order = await this.orders.findOneBy({ id });
    if (order === null) throw new NotFoundException(`There is no order ${id}.`);
    return order;
  }

  pay(id: number): Promise<Order> {
    return this.dataSource.transaction(async (manager) => {
      const order = await manager.findOne(Order, { where: { id }, lock: { mode: 'pessimistic_write' } });
      if (order === null) throw new NotFoundException(`There is no order ${id}.`);
      if (order.status === 'paid') throw new ConflictException(`Order ${id} is paid already.`);
      await manager.insert(Payment, { orderId: id, amountCents: order.totalCents });
      await manager.update(Order, { id }, { status: 'paid' });
      return { ...order, status: 'paid' };
    });
  }
}
