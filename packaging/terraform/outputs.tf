output "target_group_arn" {
  description = "For a listener of the load balancer."
  value       = aws_lb_target_group.this.arn
}

output "role_name" {
  description = "For further policies, such as kms:Decrypt on a key of your own."
  value       = aws_iam_role.this.name
}

output "security_group_id" {
  description = "For the rules of a database."
  value       = aws_security_group.this.id
}
