"""Linear last layers in closed form, and what their posterior says of forces, Hessians and phonons."""
