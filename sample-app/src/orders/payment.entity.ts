import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

@Entity('payments')
export class Payment {
  /** The primary key: an order is paid once. */
  @PrimaryColumn({ name: 'order_id', type: 'integer' })
  orderId!: number;

  @Column({ name: 'amount_cents', type: 'integer' })
  amountCents!: number;

  @CreateDateColumn({ name: 'paid_at', type: 'timestamptz' })
  paidAt!: Date;
}
