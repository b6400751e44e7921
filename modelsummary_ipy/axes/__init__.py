"""What every aten operation does to axes: described once, walked at expressions of the input's dims."""
