"""Fleet, profiles, faults, payment gateway, truth books and their checker."""
